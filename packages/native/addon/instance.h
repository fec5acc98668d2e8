// What belongs to one environment of JavaScript, the main thread's or a worker's, and ends with it.
#pragma once

#include <unordered_set>

#include "javascript.h"
#include "plans.h"
#include "staging.h"

namespace fourierft {

struct Instance {
  std::unordered_set<int64_t> plans;  // numbers of those that were made here
  Staging staging;

  Instance() = default;
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  // Finalizers of JavaScript's objects do not run where an environment ends.
  ~Instance() {
    for (const int64_t number : plans) fourierft::plans().remove(number);
  }

  static Instance& of(napi_env env) {
    void* data = nullptr;
    javascript::check(env, napi_get_instance_data(env, &data));
    if (data == nullptr) throw Failure{"the addon was not initialised"};
    return *static_cast<Instance*>(data);
  }
};

}  // namespace fourierft
