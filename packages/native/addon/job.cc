#include "job.h"

#include <cassert>

namespace fourierft {
namespace {

std::atomic<size_t> jobs{0};

}  // namespace

Job::Job() { jobs++; }

// Neither of these two calls runs JavaScript, so both work while the environment stops.
Job::~Job() {
  if (arguments_ != nullptr) {
    [[maybe_unused]] const napi_status status = napi_delete_reference(env_, arguments_);
    assert(status == napi_ok);
  }
  if (work_ != nullptr) {
    [[maybe_unused]] const napi_status status = napi_delete_async_work(env_, work_);
    assert(status == napi_ok);
  }
  jobs--;
}

size_t Job::count() { return jobs; }

void Job::start(napi_env env, std::unique_ptr<Job> job, const napi_value* arguments, size_t count) {
  using namespace javascript;
  job->env_ = env;
  job->callback_ = static_cast<uint32_t>(count - 1);
  if (type_of(env, arguments[count - 1]) != napi_function)
    throw Failure{"expected a function as the last argument", "INVALID_OPTION"};
  const napi_value argument_array = array_of(env, count);
  for (size_t i = 0; i < count; i++) set(env, argument_array, i, arguments[i]);
  check(env, napi_create_reference(env, argument_array, 1, &job->arguments_));
  check(env, napi_create_async_work(env, nullptr, string_of(env, "fourierft"), execute, complete, job.get(), &job->work_));
  check(env, napi_queue_async_work(env, job->work_));
  job.release();  // `complete` owns it now
}

void Job::execute(napi_env, void* data) {
  Job& job = *static_cast<Job*>(data);
  job.failed_ = true;
  try {
    job.work();
    job.failed_ = false;
  } catch (const Failure& failure) {
    job.failure_ = failure;
  } catch (const std::bad_alloc&) {
    job.failure_ = {"not enough memory", "UNSUPPORTED"};
  } catch (const std::exception& error) {
    job.failure_ = {error.what()};
  }
}

void Job::complete(napi_env env, napi_status status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  try {
    javascript::check(env, status);
    job->finish(env);
  } catch (const javascript::Interrupted&) {  // The environment stops.
  } catch (const Failure& failure) {
    javascript::throw_in(env, failure);  // an exception in a callback
  } catch (const std::exception& error) {
    javascript::throw_in(env, {error.what()});
  }
}

void Job::finish(napi_env env) {
  using namespace javascript;
  napi_value arguments = nullptr, receiver = nullptr, outcome[2] = {nullptr, nullptr};
  check(env, napi_get_reference_value(env, arguments_, &arguments));
  check(env, napi_get_undefined(env, &receiver));
  outcome[0] = outcome[1] = receiver;
  if (!failed_) {
    try {
      if (const napi_value value = result(env, arguments)) outcome[1] = value;
    } catch (const Interrupted&) {
      outcome[0] = take_exception(env);
    } catch (const Failure& failure) {
      outcome[0] = error_of(env, failure);
    } catch (const std::bad_alloc&) {
      outcome[0] = error_of(env, {"not enough memory", "UNSUPPORTED"});
    } catch (const std::exception& error) {
      outcome[0] = error_of(env, {error.what()});
    }
  } else {
    outcome[0] = error_of(env, failure_);
  }
  check(env, napi_call_function(env, receiver, element(env, arguments, callback_), 2, outcome, nullptr));
}

}  // namespace fourierft
