// Finds plans by their entries, for a runtime that passes the entries with every call. Layers with equal entries share a plan.
#pragma once

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace fourierft {

constexpr int kCpu = -1;

// A plan for the CPU or for a CUDA device.
template <class Plan>
using OwnedPlan = std::unique_ptr<Plan, void (*)(Plan*)>;

template <class Plan>
struct EntriesPlan {
  int device;  // the number of a CUDA device, or kCpu
  int64_t d1, d2, n;
  std::vector<int64_t> entries;  // [2, n]
  OwnedPlan<Plan> plan;

  bool matches(int other_device, int64_t rows, int64_t columns, int64_t count, const int64_t* other_entries) const {
    return device == other_device && d1 == rows && d2 == columns && n == count &&
           std::memcmp(entries.data(), other_entries, entries.size() * sizeof(int64_t)) == 0;
  }
};

// Returns the process's plan of these entries, which lives as long as it is referenced. `make(d1, d2, n, rows, columns, problem)` makes a new
// plan. Returns null, with the reason in `problem`, if no plan can be made.
template <class Plan, class Make>
std::shared_ptr<const EntriesPlan<Plan>> shared_plan(int device, int64_t d1, int64_t d2, int64_t n, const int64_t* entries, std::string& problem,
                                                     const Make& make) {
  static std::mutex mutex;
  static auto& plans = *new std::unordered_multimap<uint64_t, std::weak_ptr<const EntriesPlan<Plan>>>;
  std::lock_guard<std::mutex> lock(mutex);
  uint64_t hash = 1469598103934665603u;  // FNV-1a of the entries
  for (int64_t i = 0; i < 2 * n; i++) hash = (hash ^ static_cast<uint64_t>(entries[i])) * 1099511628211u;
  for (auto [candidate, end] = plans.equal_range(hash); candidate != end;) {
    const std::shared_ptr<const EntriesPlan<Plan>> found = candidate->second.lock();
    if (found != nullptr && found->matches(device, d1, d2, n, entries)) return found;
    candidate = found == nullptr ? plans.erase(candidate) : std::next(candidate);
  }
  std::vector<uint32_t> rows(static_cast<size_t>(n)), columns(static_cast<size_t>(n));
  for (int64_t l = 0; l < n; l++) {
    if (entries[l] < 0 || entries[l] >= d1 || entries[n + l] < 0 || entries[n + l] >= d2) {
      problem = "entry " + std::to_string(l) + " (" + std::to_string(entries[l]) + ", " + std::to_string(entries[n + l]) +
              ") is outside a layer of " + std::to_string(d1) + " x " + std::to_string(d2);
      return nullptr;
    }
    rows[static_cast<size_t>(l)] = static_cast<uint32_t>(entries[l]);
    columns[static_cast<size_t>(l)] = static_cast<uint32_t>(entries[n + l]);
  }
  const std::string description = std::to_string(n) + " entries of a layer of " + std::to_string(d1) + " x " + std::to_string(d2);
  if (d1 > UINT32_MAX || d2 > UINT32_MAX || n > UINT32_MAX) {
    problem = "no plan for " + description;
    return nullptr;
  }
  OwnedPlan<Plan> plan =
      make(static_cast<uint32_t>(d1), static_cast<uint32_t>(d2), static_cast<uint32_t>(n), rows.data(), columns.data(), problem);
  if (plan == nullptr) {
    problem = "no plan for " + description + (problem.empty() ? "" : ": " + problem);
    return nullptr;
  }
  auto created = std::make_shared<EntriesPlan<Plan>>(
      EntriesPlan<Plan>{device, d1, d2, n, std::vector<int64_t>(entries, entries + 2 * n), std::move(plan)});
  plans.emplace(hash, created);
  return created;
}

}  // namespace fourierft
