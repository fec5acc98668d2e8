// The addon: the kernel for typed arrays, off the main thread, and the registration of the TensorFlow operators. Lengths are checked
// here once more than in TypeScript, because what is wrong here would be read out of bounds. Works in worker threads: the only state
// of the process is the table of plans.
#define NAPI_VERSION 8
#include <node_api.h>

#include <memory>
#include <string>

#include "fourierft/fourierft.h"
#include "onnxruntime.h"
#include "plans.h"
#include "pool.h"
#include "tensorflow.h"

namespace {

using fourierft::NumberedPlan;
using fourierft::plans;

napi_value throw_error(napi_env env, const char* code, const std::string& message) {
  napi_throw_error(env, code, message.c_str());
  return nullptr;
}

// A typed array's memory. `data` stays valid while the array is referenced and its buffer is not transferred away.
struct Array {
  void* data = nullptr;
  size_t length = 0;
};

bool read(napi_env env, napi_value value, napi_typedarray_type type, Array& array) {
  bool is_array = false;
  napi_is_typedarray(env, value, &is_array);
  if (!is_array) return false;
  napi_typedarray_type found;
  return napi_get_typedarray_info(env, value, &found, &array.length, &array.data, nullptr, nullptr) == napi_ok && found == type;
}

bool is_null(napi_env env, napi_value value) {
  napi_valuetype type;
  napi_typeof(env, value, &type);
  return type == napi_null || type == napi_undefined;
}

template <size_t N>
bool arguments(napi_env env, napi_callback_info info, napi_value (&values)[N]) {
  size_t count = N;
  return napi_get_cb_info(env, info, &count, values, nullptr, nullptr) == napi_ok && count == N;
}

napi_value create_plan(napi_env env, napi_callback_info info) {
  napi_value v[4];
  uint32_t d1, d2;
  Array rows, columns;
  if (!arguments(env, info, v) || napi_get_value_uint32(env, v[0], &d1) != napi_ok || napi_get_value_uint32(env, v[1], &d2) != napi_ok ||
      !read(env, v[2], napi_uint32_array, rows) || !read(env, v[3], napi_uint32_array, columns) || rows.length != columns.length ||
      rows.length > UINT32_MAX)
    return throw_error(env, "INVALID_OPTION", "createPlan(d1, d2, rows: Uint32Array, columns: Uint32Array of the same length)");
  fourierft_plan* plan = nullptr;
  const auto n = static_cast<uint32_t>(rows.length);
  switch (fourierft_plan_create(d1, d2, n, static_cast<uint32_t*>(rows.data), static_cast<uint32_t*>(columns.data), &plan)) {
    case FOURIERFT_OK: break;
    case FOURIERFT_INVALID_SHAPE: return throw_error(env, "SHAPE_MISMATCH", "no plan for this shape and number of entries");
    case FOURIERFT_INVALID_ENTRY: return throw_error(env, "ENTRY_OUT_OF_RANGE", "an entry lies outside the spectrum");
    default: return throw_error(env, "UNSUPPORTED", "not enough memory for the plan");
  }
  napi_value number;
  napi_create_int64(env, plans().add(std::shared_ptr<const NumberedPlan>(new NumberedPlan{d1, d2, n, plan})), &number);
  return number;
}

napi_value destroy_plan(napi_env env, napi_callback_info info) {
  napi_value v[1];
  int64_t number = 0;
  if (!arguments(env, info, v) || napi_get_value_int64(env, v[0], &number) != napi_ok)
    return throw_error(env, "INVALID_OPTION", "destroyPlan(plan)");
  plans().remove(number);
  return nullptr;
}

// One call on its way: what it computes with, and the arrays that it keeps alive.
struct Call {
  enum { kForward, kBackward, kDelta } what;
  std::shared_ptr<const NumberedPlan> plan;
  const float *coefficients, *scalings;
  int32_t adapters;
  fourierft_dtype dtype;
  const void *x = nullptr, *grad_y = nullptr;
  int64_t tokens = 0;
  const int32_t* adapter_of_row = nullptr;
  void* result = nullptr;        // y, or grad_x
  float* numbers = nullptr;      // grad_coefficients, or delta
  fourierft_status status = FOURIERFT_OK;
  napi_ref kept = nullptr;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
};

void execute(napi_env, void* data) {
  Call& call = *static_cast<Call*>(data);
  const fourierft_runner runner = fourierft::pool().runner();
  switch (call.what) {
    case Call::kForward:
      call.status = fourierft_forward(call.plan->plan, call.coefficients, call.adapters, call.scalings, call.dtype, call.x, call.tokens,
                                      call.adapter_of_row, call.result, &runner);
      break;
    case Call::kBackward:
      call.status = fourierft_backward(call.plan->plan, call.coefficients, call.adapters, call.scalings, call.dtype, call.x, call.grad_y,
                                       call.tokens, call.adapter_of_row, call.numbers, call.result, &runner);
      break;
    case Call::kDelta:
      call.status = fourierft_delta(call.plan->plan, call.coefficients, call.adapters, call.scalings, call.numbers, &runner);
  }
}

void complete(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Call> call(static_cast<Call*>(data));
  napi_value undefined;
  napi_get_undefined(env, &undefined);
  if (call->status == FOURIERFT_OK) {
    napi_resolve_deferred(env, call->deferred, undefined);
  } else {
    const bool memory = call->status == FOURIERFT_OUT_OF_MEMORY;
    napi_value code, message, error;
    napi_create_string_utf8(env, memory ? "UNSUPPORTED" : "INVALID_OPTION", NAPI_AUTO_LENGTH, &code);
    napi_create_string_utf8(env, memory ? "not enough memory" : "rows: an index that names no layer", NAPI_AUTO_LENGTH, &message);
    napi_create_error(env, code, message, &error);
    napi_reject_deferred(env, call->deferred, error);
  }
  napi_delete_reference(env, call->kept);
  napi_delete_async_work(env, call->work);
}

// Queues the call and returns its promise; `values` are kept alive until it is done.
napi_value queue(napi_env env, std::unique_ptr<Call> call, const napi_value* values, size_t count) {
  napi_value keep, promise, name;
  napi_create_array_with_length(env, count, &keep);
  for (size_t i = 0; i < count; i++) napi_set_element(env, keep, static_cast<uint32_t>(i), values[i]);
  napi_create_reference(env, keep, 1, &call->kept);
  napi_create_promise(env, &call->deferred, &promise);
  napi_create_string_utf8(env, "fourierft", NAPI_AUTO_LENGTH, &name);
  Call* raw = call.release();
  napi_create_async_work(env, nullptr, name, execute, complete, raw, &raw->work);
  napi_queue_async_work(env, raw->work);
  return promise;
}

// plan, coefficients and scalings, which all calls begin with.
bool begin(napi_env env, const napi_value* v, Call& call) {
  int64_t number = 0;
  Array coefficients, scalings;
  if (napi_get_value_int64(env, v[0], &number) != napi_ok || !read(env, v[1], napi_float32_array, coefficients) ||
      !read(env, v[2], napi_float32_array, scalings)) {
    throw_error(env, "INVALID_OPTION", "expected a plan, Float32Array coefficients and Float32Array scalings");
    return false;
  }
  call.plan = plans().find(number);
  if (call.plan == nullptr) {
    throw_error(env, "INVALID_STATE", "the plan has been disposed of");
    return false;
  }
  if (scalings.length > INT32_MAX || coefficients.length != scalings.length * call.plan->n) {
    throw_error(env, "SHAPE_MISMATCH", "coefficients: expected " + std::to_string(scalings.length) + " x " + std::to_string(call.plan->n));
    return false;
  }
  call.coefficients = static_cast<float*>(coefficients.data);
  call.scalings = static_cast<float*>(scalings.data);
  call.adapters = static_cast<int32_t>(scalings.length);
  return true;
}

// Activations: Float32Array, or Uint16Array that holds float16 (dtype 1) or bfloat16 (dtype 2).
bool read_numbers(napi_env env, napi_value value, const Call& call, Array& array) {
  return read(env, value, call.dtype == FOURIERFT_FLOAT32 ? napi_float32_array : napi_uint16_array, array);
}

bool read_dtype(napi_env env, napi_value value, Call& call) {
  int32_t dtype = 0;
  if (napi_get_value_int32(env, value, &dtype) != napi_ok || dtype < 0 || dtype > 2) return false;
  call.dtype = static_cast<fourierft_dtype>(dtype);
  return true;
}

bool read_choice(napi_env env, napi_value value, Call& call) {
  if (is_null(env, value)) return true;
  Array choice;
  if (!read(env, value, napi_int32_array, choice) || static_cast<int64_t>(choice.length) != call.tokens) return false;
  call.adapter_of_row = static_cast<int32_t*>(choice.data);
  return true;
}

// forward(plan, coefficients, scalings, dtype, x, adapterOfRow | null, y)
napi_value forward(napi_env env, napi_callback_info info) {
  napi_value v[7];
  auto call = std::make_unique<Call>();
  call->what = Call::kForward;
  if (!arguments(env, info, v)) return throw_error(env, "INVALID_OPTION", "forward takes seven arguments");
  if (!begin(env, v, *call)) return nullptr;
  Array x, y;
  if (!read_dtype(env, v[3], *call) || !read_numbers(env, v[4], *call, x) || !read_numbers(env, v[6], *call, y))
    return throw_error(env, "UNSUPPORTED_DTYPE", "x and y: expected arrays of the dtype that was named");
  call->tokens = static_cast<int64_t>(x.length / call->plan->d2);
  if (x.length != static_cast<size_t>(call->tokens) * call->plan->d2 || y.length != static_cast<size_t>(call->tokens) * call->plan->d1 ||
      !read_choice(env, v[5], *call))
    return throw_error(env, "SHAPE_MISMATCH", "x [T, d2], y [T, d1] and rows [T] do not fit one another");
  call->x = x.data;
  call->result = y.data;
  return queue(env, std::move(call), v, 7);
}

// backward(plan, coefficients, scalings, dtype, x, gradY, adapterOfRow | null, gradCoefficients, gradX | null)
napi_value backward(napi_env env, napi_callback_info info) {
  napi_value v[9];
  auto call = std::make_unique<Call>();
  call->what = Call::kBackward;
  if (!arguments(env, info, v)) return throw_error(env, "INVALID_OPTION", "backward takes nine arguments");
  if (!begin(env, v, *call)) return nullptr;
  Array x, grad_y, grad_coefficients, grad_x;
  const bool wants_x = !is_null(env, v[8]);
  if (!read_dtype(env, v[3], *call) || !read_numbers(env, v[4], *call, x) || !read_numbers(env, v[5], *call, grad_y) ||
      !read(env, v[7], napi_float32_array, grad_coefficients) || (wants_x && !read_numbers(env, v[8], *call, grad_x)))
    return throw_error(env, "UNSUPPORTED_DTYPE", "x, gradY and gradX: expected arrays of the dtype that was named");
  call->tokens = static_cast<int64_t>(x.length / call->plan->d2);
  if (x.length != static_cast<size_t>(call->tokens) * call->plan->d2 ||
      grad_y.length != static_cast<size_t>(call->tokens) * call->plan->d1 || (wants_x && grad_x.length != x.length) ||
      grad_coefficients.length != static_cast<size_t>(call->adapters) * call->plan->n || !read_choice(env, v[6], *call))
    return throw_error(env, "SHAPE_MISMATCH", "x [T, d2], gradY [T, d1], gradients and rows [T] do not fit one another");
  call->x = x.data;
  call->grad_y = grad_y.data;
  call->numbers = static_cast<float*>(grad_coefficients.data);
  call->result = wants_x ? grad_x.data : nullptr;
  return queue(env, std::move(call), v, 9);
}

// delta(plan, coefficients, scalings, delta)
napi_value delta(napi_env env, napi_callback_info info) {
  napi_value v[4];
  auto call = std::make_unique<Call>();
  call->what = Call::kDelta;
  if (!arguments(env, info, v)) return throw_error(env, "INVALID_OPTION", "delta takes four arguments");
  if (!begin(env, v, *call)) return nullptr;
  Array result;
  if (!read(env, v[3], napi_float32_array, result) || result.length != static_cast<size_t>(call->plan->d1) * call->plan->d2)
    return throw_error(env, "SHAPE_MISMATCH", "delta: expected a Float32Array of d1 x d2 numbers");
  call->numbers = static_cast<float*>(result.data);
  return queue(env, std::move(call), v, 4);
}

napi_value register_tensorflow(napi_env env, napi_callback_info info) {
  napi_value v[1];
  char path[4096];
  size_t length = 0;
  if (!arguments(env, info, v) || napi_get_value_string_utf8(env, v[0], path, sizeof path, &length) != napi_ok)
    return throw_error(env, "INVALID_OPTION", "registerTensorFlow(path of libtensorflow_framework)");
  const std::string wrong = fourierft::register_tensorflow_operators(std::string(path, length));
  return wrong.empty() ? nullptr : throw_error(env, "UNSUPPORTED", wrong);
}

napi_value instructions(napi_env env, napi_callback_info) {
  napi_value result;
  napi_create_string_utf8(env, fourierft_instructions(), NAPI_AUTO_LENGTH, &result);
  return result;
}

napi_value plan_count(napi_env env, napi_callback_info) {
  napi_value result;
  napi_create_int64(env, static_cast<int64_t>(plans().count()), &result);
  return result;
}

napi_value initialise(napi_env env, napi_value exports) {
  const napi_property_descriptor properties[] = {
      {"createPlan", nullptr, create_plan, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"destroyPlan", nullptr, destroy_plan, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"planCount", nullptr, plan_count, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"forward", nullptr, forward, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"backward", nullptr, backward, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"delta", nullptr, delta, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"registerTensorFlow", nullptr, register_tensorflow, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"openOnnxRuntime", nullptr, fourierft::onnxruntime::open, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"openCudaLibrary", nullptr, fourierft::onnxruntime::open_cuda, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"createOnnxSession", nullptr, fourierft::onnxruntime::create_session, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"runOnnxSession", nullptr, fourierft::onnxruntime::run_session, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"releaseOnnxSession", nullptr, fourierft::onnxruntime::release_session, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"instructions", nullptr, instructions, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, sizeof properties / sizeof *properties, properties);
  return exports;
}

}  // namespace

NAPI_MODULE(fourierft, initialise)
