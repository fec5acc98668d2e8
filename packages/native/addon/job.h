// Work off JavaScript's thread. A job that has begun is always ended on the thread that began it, also where that thread's environment stops
// meanwhile: Node waits for it. Then nobody is told the result, and what the job holds is let go like any other's.
#pragma once

#include <atomic>
#include <memory>

#include "javascript.h"

namespace fourierft {

class Job {
 public:
  Job();
  virtual ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  // On a thread of Node's pool. Nothing of JavaScript may be touched, nor memory that JavaScript can take away (javascript::TypedArray).
  // What this throws is the error of the call.
  virtual void work() = 0;
  // On JavaScript's thread afterwards: the value of the call, or null for undefined. `arguments`: an array of those that `start` was given.
  virtual napi_value result(napi_env env, napi_value arguments) = 0;

  // Starts the job. The last argument is a function `(error, value)`, called at its end. It is not a promise, for Node frees its own
  // handle of a promise only where it is settled, and that fails where the environment stops. All arguments are kept alive until then.
  template <size_t N>
  static void start(napi_env env, std::unique_ptr<Job> job, const napi_value (&arguments)[N]) {
    start(env, std::move(job), arguments, N);
  }

  // How many there are in the process.
  static size_t count();

 private:
  static void start(napi_env env, std::unique_ptr<Job> job, const napi_value* arguments, size_t count);
  static void execute(napi_env, void* data);
  static void complete(napi_env env, napi_status status, void* data);
  void finish(napi_env env);

  Failure failure_;
  bool failed_ = false;
  napi_env env_ = nullptr;
  napi_ref arguments_ = nullptr;
  uint32_t callback_ = 0;  // its index among them
  napi_async_work work_ = nullptr;
};

}  // namespace fourierft
