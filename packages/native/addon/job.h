// Work off JavaScript's thread. A job that has started always ends on the thread that started it. If that thread's environment stops while the
// job runs, Node waits for the job, the result is dropped, and the job's resources are freed.
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

  // Runs on a thread of Node's pool. It must not use JavaScript values, or memory that JavaScript can free (javascript::TypedArray).
  // An exception becomes the error of the call.
  virtual void work() = 0;
  // Runs on JavaScript's thread afterwards and returns the value of the call, or null for undefined. `arguments`: an array of the arguments
  // of `start`.
  virtual napi_value result(napi_env env, napi_value arguments) = 0;

  // Starts the job. The last argument is a function `(error, value)`, which is called at the end. A promise would leak: Node frees its handle
  // of a promise only when the promise is settled, which fails if the environment stops. All arguments are kept alive until the end.
  template <size_t N>
  static void start(napi_env env, std::unique_ptr<Job> job, const napi_value (&arguments)[N]) {
    start(env, std::move(job), arguments, N);
  }

  // The number of jobs in the process.
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
  uint32_t callback_ = 0;  // the index of the callback in `arguments_`
  napi_async_work work_ = nullptr;
};

}  // namespace fourierft
