// The state of one environment of JavaScript, that of the main thread or of a worker. It ends with the environment.
#pragma once

#include <unordered_set>

#include "javascript.h"
#include "plans.h"
#include "staging.h"

namespace fourierft {

struct Instance {
  std::unordered_set<int64_t> plans;  // numbers of the plans made in this environment
  Staging staging;

  Instance() = default;
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  // Finalizers of JavaScript's objects do not run when an environment ends.
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
