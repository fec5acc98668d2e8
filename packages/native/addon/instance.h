// The state of one Node-API environment (main thread or worker). It is freed when the environment ends.
#pragma once

#include <unordered_set>

#include "copy-buffers.h"
#include "javascript.h"
#include "plans.h"

namespace fourierft {

struct Instance {
  std::unordered_set<int64_t> plans;  // numbers of the plans made in this environment
  CopyBuffers copy_buffers;

  Instance() = default;
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  // Destroys the plans here, because finalizers of JavaScript objects do not run when an environment ends.
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
