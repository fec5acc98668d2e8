// Plans found by their entries, for a runtime that passes the entries with every call. Kernels of layers with equal entries share a plan.
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

// A plan for a CPU or on a CUDA device.
template <class Plan>
using OwnedPlan = std::unique_ptr<Plan, void (*)(Plan*)>;

template <class Plan>
struct EntriesPlan {
  int device;  // of CUDA; kCpu for the CPU
  int64_t d1, d2, n;
  std::vector<int64_t> entries;  // [2, n]
  OwnedPlan<Plan> plan;

  bool is_of(int other_device, int64_t rows, int64_t columns, int64_t count, const int64_t* numbers) const {
    return device == other_device && d1 == rows && d2 == columns && n == count &&
           std::memcmp(entries.data(), numbers, entries.size() * sizeof(int64_t)) == 0;
  }
};

// The process's plan of these entries, which lives as long as it is referenced. `make(d1, d2, n, rows, columns, problem)` makes a new one. Null,
// with the reason in `problem`, if no plan can be made.
template <class Plan, class Make>
std::shared_ptr<const EntriesPlan<Plan>> shared_plan(int device, int64_t d1, int64_t d2, int64_t n, const int64_t* numbers, std::string& problem,
                                                     const Make& make) {
  static std::mutex mutex;
  static auto& known = *new std::unordered_multimap<uint64_t, std::weak_ptr<const EntriesPlan<Plan>>>;
  std::lock_guard<std::mutex> lock(mutex);
  uint64_t hash = 1469598103934665603u;  // FNV-1a over the numbers
  for (int64_t i = 0; i < 2 * n; i++) hash = (hash ^ static_cast<uint64_t>(numbers[i])) * 1099511628211u;
  for (auto [each, end] = known.equal_range(hash); each != end;) {
    const std::shared_ptr<const EntriesPlan<Plan>> found = each->second.lock();
    if (found != nullptr && found->is_of(device, d1, d2, n, numbers)) return found;
    each = found == nullptr ? known.erase(each) : std::next(each);
  }
  std::vector<uint32_t> rows(static_cast<size_t>(n)), columns(static_cast<size_t>(n));
  for (int64_t l = 0; l < n; l++) {
    if (numbers[l] < 0 || numbers[l] >= d1 || numbers[n + l] < 0 || numbers[n + l] >= d2) {
      problem = "entry " + std::to_string(l) + " (" + std::to_string(numbers[l]) + ", " + std::to_string(numbers[n + l]) +
              ") is outside a layer of " + std::to_string(d1) + " x " + std::to_string(d2);
      return nullptr;
    }
    rows[static_cast<size_t>(l)] = static_cast<uint32_t>(numbers[l]);
    columns[static_cast<size_t>(l)] = static_cast<uint32_t>(numbers[n + l]);
  }
  const std::string what = std::to_string(n) + " entries of a layer of " + std::to_string(d1) + " x " + std::to_string(d2);
  if (d1 > UINT32_MAX || d2 > UINT32_MAX || n > UINT32_MAX) {
    problem = "no plan for " + what;
    return nullptr;
  }
  OwnedPlan<Plan> plan =
      make(static_cast<uint32_t>(d1), static_cast<uint32_t>(d2), static_cast<uint32_t>(n), rows.data(), columns.data(), problem);
  if (plan == nullptr) {
    problem = "no plan for " + what + (problem.empty() ? "" : ": " + problem);
    return nullptr;
  }
  auto created = std::make_shared<EntriesPlan<Plan>>(
      EntriesPlan<Plan>{device, d1, d2, n, std::vector<int64_t>(numbers, numbers + 2 * n), std::move(plan)});
  known.emplace(hash, created);
  return created;
}

}  // namespace fourierft
