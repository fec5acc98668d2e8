// Plans by their entries, for a host that hands the entries over with every call: kernels of layers that share their entries share a plan.
#pragma once

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace fourierft {

// A plan of one kind, for a CPU or on a CUDA device (`place`: which).
template <class Plan>
using OwnedPlan = std::unique_ptr<Plan, void (*)(Plan*)>;

template <class Plan>
struct EntriesPlan {
  int place;
  int64_t d1, d2, n;
  std::vector<int64_t> entries;  // [2, n]
  OwnedPlan<Plan> plan;

  bool is_of(int where, int64_t rows, int64_t columns, int64_t count, const int64_t* numbers) const {
    return place == where && d1 == rows && d2 == columns && n == count &&
           std::memcmp(entries.data(), numbers, entries.size() * sizeof(int64_t)) == 0;
  }
};

// The process's plan of these entries; null, and `wrong` says why, where there is none. It lives as long as somebody holds it.
// `make(d1, d2, n, rows, columns, wrong)` makes one that is not there yet.
template <class Plan, class Make>
std::shared_ptr<const EntriesPlan<Plan>> shared_plan(int place, int64_t d1, int64_t d2, int64_t n, const int64_t* numbers, std::string& wrong,
                                                     const Make& make) {
  static std::mutex mutex;
  static auto& known = *new std::unordered_multimap<uint64_t, std::weak_ptr<const EntriesPlan<Plan>>>;
  std::lock_guard<std::mutex> lock(mutex);
  uint64_t hash = 1469598103934665603u;  // FNV-1a over the numbers
  for (int64_t i = 0; i < 2 * n; i++) hash = (hash ^ static_cast<uint64_t>(numbers[i])) * 1099511628211u;
  for (auto [each, end] = known.equal_range(hash); each != end;) {
    const std::shared_ptr<const EntriesPlan<Plan>> found = each->second.lock();
    if (found != nullptr && found->is_of(place, d1, d2, n, numbers)) return found;
    each = found == nullptr ? known.erase(each) : std::next(each);
  }
  std::vector<uint32_t> rows(static_cast<size_t>(n)), columns(static_cast<size_t>(n));
  for (int64_t l = 0; l < n; l++) {
    if (numbers[l] < 0 || numbers[l] >= d1 || numbers[n + l] < 0 || numbers[n + l] >= d2) {
      wrong = "entry " + std::to_string(l) + " (" + std::to_string(numbers[l]) + ", " + std::to_string(numbers[n + l]) +
              ") lies outside of a layer of " + std::to_string(d1) + " x " + std::to_string(d2);
      return nullptr;
    }
    rows[static_cast<size_t>(l)] = static_cast<uint32_t>(numbers[l]);
    columns[static_cast<size_t>(l)] = static_cast<uint32_t>(numbers[n + l]);
  }
  const std::string what = std::to_string(n) + " entries of a layer of " + std::to_string(d1) + " x " + std::to_string(d2);
  if (d1 > UINT32_MAX || d2 > UINT32_MAX || n > UINT32_MAX) {
    wrong = "no plan for " + what;
    return nullptr;
  }
  OwnedPlan<Plan> plan =
      make(static_cast<uint32_t>(d1), static_cast<uint32_t>(d2), static_cast<uint32_t>(n), rows.data(), columns.data(), wrong);
  if (plan == nullptr) {
    wrong = "no plan for " + what + (wrong.empty() ? "" : ": " + wrong);
    return nullptr;
  }
  auto made = std::make_shared<EntriesPlan<Plan>>(
      EntriesPlan<Plan>{place, d1, d2, n, std::vector<int64_t>(numbers, numbers + 2 * n), std::move(plan)});
  known.emplace(hash, made);
  return made;
}

}  // namespace fourierft
