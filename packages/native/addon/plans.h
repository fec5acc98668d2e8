// The numbered plans of the process. A TensorFlow attribute or a JavaScript number refers to a plan by its number.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fourierft/fourierft.h"

namespace fourierft {

// A plan whose tables are made by the first call that computes with it. For a large prime size this takes seconds, and JavaScript must not wait.
class NumberedPlan {
 public:
  const uint32_t d1, d2, n;

  // The arguments must pass `fourierft_plan_check`.
  NumberedPlan(uint32_t d1, uint32_t d2, std::vector<uint32_t> rows, std::vector<uint32_t> columns)
      : d1(d1), d2(d2), n(static_cast<uint32_t>(rows.size())), rows_(std::move(rows)), columns_(std::move(columns)) {}
  NumberedPlan(const NumberedPlan&) = delete;
  NumberedPlan& operator=(const NumberedPlan&) = delete;
  ~NumberedPlan() { fourierft_plan_destroy(plan_); }

  // Makes the tables if necessary. Returns null if there is not enough memory.
  const fourierft_plan* get() const {
    std::lock_guard<std::mutex> lock(mutex_);
    if (plan_ == nullptr && fourierft_plan_create(d1, d2, n, rows_.data(), columns_.data(), &plan_) == FOURIERFT_OK) {
      rows_ = {};
      columns_ = {};
    }
    return plan_;
  }

 private:
  mutable std::mutex mutex_;
  mutable std::vector<uint32_t> rows_, columns_;
  mutable fourierft_plan* plan_ = nullptr;
};

class Plans {
 public:
  // A running call keeps its plan alive after `remove`.
  std::shared_ptr<const NumberedPlan> find(int64_t number) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = plans_.find(number);
    return found == plans_.end() ? nullptr : found->second;
  }
  int64_t add(std::shared_ptr<const NumberedPlan> plan) {
    std::lock_guard<std::mutex> lock(mutex_);
    plans_.emplace(++last_, std::move(plan));
    return last_;
  }
  void remove(int64_t number) {
    std::lock_guard<std::mutex> lock(mutex_);
    plans_.erase(number);
  }
  size_t count() {
    std::lock_guard<std::mutex> lock(mutex_);
    return plans_.size();
  }

 private:
  std::mutex mutex_;
  std::unordered_map<int64_t, std::shared_ptr<const NumberedPlan>> plans_;
  int64_t last_ = 0;
};

inline Plans& plans() {
  static Plans* const shared = new Plans;
  return *shared;
}

}  // namespace fourierft
