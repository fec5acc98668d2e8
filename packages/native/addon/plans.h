// Plans by number: what a TensorFlow attribute and a JavaScript number can name, in every thread of the process.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "fourierft/fourierft.h"

namespace fourierft {

struct NumberedPlan {
  uint32_t d1, d2, n;
  fourierft_plan* plan;
  ~NumberedPlan() { fourierft_plan_destroy(plan); }
};

class Plans {
 public:
  // A call that runs keeps its plan alive after `remove`.
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
