// The addon: the kernel for typed arrays, off the main thread, and the registration of the TensorFlow operators. Lengths are also checked
// here, because a wrong length would be read out of bounds. The addon works in worker threads: only the numbered plans, the thread pool and the
// opened libraries belong to the process.
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "fourierft/fourierft.h"
#include "instance.h"
#include "job.h"
#include "library.h"
#include "onnxruntime.h"
#include "plans.h"
#include "pool.h"
#include "tensorflow.h"

namespace {

using namespace fourierft::javascript;
using fourierft::Failure;
using fourierft::Instance;
using fourierft::NumberedPlan;
using fourierft::plans;
using fourierft::CopyBuffers;

TypedArray read(napi_env env, napi_value value, napi_typedarray_type type, const char* message) {
  bool is_array = false;
  check(env, napi_is_typedarray(env, value, &is_array));
  if (is_array)
    if (const TypedArray array(env, value); array.type == type) return array;
  throw Failure{message, "UNSUPPORTED_DTYPE"};
}

std::vector<uint32_t> copy_of(const TypedArray& array) {
  const auto* first = static_cast<const uint32_t*>(array.data);
  return {first, first + array.length};
}

napi_value create_plan(napi_env env, napi_callback_info info) {
  return guarded<4>(env, info, [&](const napi_value (&v)[4]) {
    const char* const expected = "createPlan(d1, d2, rows: Uint32Array, columns: Uint32Array of the same length)";
    const auto d1 = static_cast<uint32_t>(integer(env, v[0], "d1", 0, UINT32_MAX));
    const auto d2 = static_cast<uint32_t>(integer(env, v[1], "d2", 0, UINT32_MAX));
    const TypedArray rows = read(env, v[2], napi_uint32_array, expected), columns = read(env, v[3], napi_uint32_array, expected);
    if (rows.length != columns.length) throw Failure{expected, "SHAPE_MISMATCH"};
    if (rows.length > UINT32_MAX) throw Failure{"rows: expected fewer than 2^32 entries", "SHAPE_MISMATCH"};
    // Copied before the check, because shared memory can change after it.
    std::vector<uint32_t> copied_rows = copy_of(rows), copied_columns = copy_of(columns);
    switch (fourierft_plan_check(d1, d2, static_cast<uint32_t>(copied_rows.size()), copied_rows.data(), copied_columns.data())) {
      case FOURIERFT_OK: break;
      case FOURIERFT_INVALID_ENTRY: throw Failure{"an entry is outside the spectrum", "ENTRY_OUT_OF_RANGE"};
      default:
        throw Failure{"expected 1 to 2^24 rows and columns, and 1 to 2^30 distinct entries; received " + std::to_string(copied_rows.size()) +
                          " entries of a layer of " + std::to_string(d1) + " x " + std::to_string(d2),
                      "SHAPE_MISMATCH"};
    }
    Instance& instance = Instance::of(env);
    const int64_t number = plans().add(std::make_shared<const NumberedPlan>(d1, d2, std::move(copied_rows), std::move(copied_columns)));
    try {
      instance.plans.insert(number);
      return number_of(env, static_cast<double>(number));
    } catch (...) {
      instance.plans.erase(number);
      plans().remove(number);
      throw;
    }
  });
}

napi_value destroy_plan(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [&](const napi_value (&v)[1]) -> napi_value {
    const int64_t number = integer(env, v[0], "plan", 0, kMaxSafeInteger);
    if (Instance::of(env).plans.erase(number) > 0) plans().remove(number);
    return nullptr;
  });
}

// The numbers of an array during a call: a copy, or the array's own memory if it is shared.
class Numbers {
 public:
  Numbers() = default;
  Numbers(CopyBuffers& copy_buffers, const TypedArray& array) : is_copy_(!array.is_shared) {
    if (is_copy_) {
      copy_ = copy_buffers.take(array.bytes);
      if (array.bytes > 0) std::memcpy(copy_.data(), array.data, array.bytes);
    }
    data_ = is_copy_ ? copy_.data() : array.data;
  }
  template <class T = void>
  T* as() const {
    return static_cast<T*>(data_);
  }

  // Copies the numbers back into the array, which must still have this type and at least this length.
  void write_back(napi_env env, napi_value value, napi_typedarray_type type, size_t length, const char* name) const {
    if (!is_copy_) return;
    const TypedArray array(env, value);
    if (array.type != type || array.length < length)
      throw Failure{std::string(name) + ": its buffer was transferred or resized while the call ran, and the result is lost", "INVALID_STATE"};
    if (length > 0) std::memcpy(array.data, data_, length * (array.bytes / array.length));
  }

 private:
  bool is_copy_ = false;
  CopyBuffers::Block copy_;
  void* data_ = nullptr;
};

// One call of the kernel. Its arrays are copied unless they are in shared memory, so JavaScript can change or free them during the call.
class Call : public fourierft::Job {
 public:
  // The first arguments of every call: plan, coefficients, scalings.
  Call(napi_env env, const napi_value* v) : copy_buffers_(Instance::of(env).copy_buffers) {
    const char* const expected = "expected a plan, Float32Array coefficients and Float32Array scalings";
    plan_ = plans().find(integer(env, v[0], "plan", 0, kMaxSafeInteger));
    if (plan_ == nullptr) throw Failure{"the plan has been disposed of", "INVALID_STATE"};
    const TypedArray coefficients = read(env, v[1], napi_float32_array, expected), scalings = read(env, v[2], napi_float32_array, expected);
    if (scalings.length > INT32_MAX || coefficients.length != scalings.length * plan_->n)
      throw Failure{"coefficients: expected " + std::to_string(scalings.length) + " x " + std::to_string(plan_->n) + "; received " +
                        std::to_string(coefficients.length),
                    "SHAPE_MISMATCH"};
    adapters_ = static_cast<int32_t>(scalings.length);
    coefficients_ = Numbers(copy_buffers_, coefficients);
    scalings_ = Numbers(copy_buffers_, scalings);
  }

  void work() override {
    const fourierft_plan* const plan = plan_->get();
    if (plan == nullptr) throw Failure{"not enough memory for the plan", "UNSUPPORTED"};
    const fourierft_runner runner = fourierft::pool().runner();
    switch (compute(plan, runner)) {
      case FOURIERFT_OK: return;
      case FOURIERFT_OUT_OF_MEMORY: throw Failure{"not enough memory", "UNSUPPORTED"};
      default: throw Failure{"rows: expected -1 or the index of a layer", "INVALID_OPTION"};
    }
  }

 protected:
  virtual fourierft_status compute(const fourierft_plan* plan, const fourierft_runner& runner) = 0;

  // Activations: a Float32Array, or a Uint16Array of float16 (dtype 1) or bfloat16 (dtype 2) numbers.
  void read_dtype(napi_env env, napi_value value) { dtype_ = static_cast<fourierft_dtype>(integer(env, value, "dtype", 0, 2)); }
  napi_typedarray_type type() const { return dtype_ == FOURIERFT_FLOAT32 ? napi_float32_array : napi_uint16_array; }
  TypedArray activations(napi_env env, napi_value value) const {
    return read(env, value, type(), "activations: expected Float32Array for dtype 0, Uint16Array for dtypes 1 and 2");
  }
  // Returns the number of tokens. Throws if the length is not a multiple of the width.
  static int64_t tokens_of(const TypedArray& array, uint32_t width, const char* message) {
    if (array.length % width != 0) throw Failure{message, "SHAPE_MISMATCH"};
    return static_cast<int64_t>(array.length / width);
  }
  void read_rows(napi_env env, napi_value value, const char* message) {
    if (is_absent(env, value)) return;
    const TypedArray rows = read(env, value, napi_int32_array, "rows: expected an Int32Array");
    if (static_cast<int64_t>(rows.length) != tokens_) throw Failure{message, "SHAPE_MISMATCH"};
    // Always copied: an index that changes after its check would be read out of bounds.
    rows_.assign(static_cast<const int32_t*>(rows.data), static_cast<const int32_t*>(rows.data) + rows.length);
    has_rows_ = true;
  }
  const int32_t* rows() const { return has_rows_ ? rows_.data() : nullptr; }

  CopyBuffers& copy_buffers_;
  std::shared_ptr<const NumberedPlan> plan_;
  Numbers coefficients_, scalings_;
  int32_t adapters_ = 0;
  fourierft_dtype dtype_ = FOURIERFT_FLOAT32;
  int64_t tokens_ = 0;

 private:
  std::vector<int32_t> rows_;
  bool has_rows_ = false;
};

// forward(plan, coefficients, scalings, dtype, x, adapterOfRow | null, y, done)
class Forward : public Call {
 public:
  Forward(napi_env env, const napi_value (&v)[8]) : Call(env, v) {
    const char* const mismatch = "x [T, d2], y [T, d1] and rows [T] do not fit one another";
    read_dtype(env, v[3]);
    const TypedArray x = activations(env, v[4]), y = activations(env, v[kY]);
    tokens_ = tokens_of(x, plan_->d2, mismatch);
    if (tokens_of(y, plan_->d1, mismatch) != tokens_) throw Failure{mismatch, "SHAPE_MISMATCH"};
    read_rows(env, v[5], mismatch);
    x_ = Numbers(copy_buffers_, x);
    y_ = Numbers(copy_buffers_, y);
  }

  fourierft_status compute(const fourierft_plan* plan, const fourierft_runner& runner) override {
    return fourierft_forward(plan, coefficients_.as<float>(), adapters_, scalings_.as<float>(), dtype_, x_.as<>(), tokens_, rows(), y_.as<>(),
                             &runner);
  }

  napi_value result(napi_env env, napi_value arguments) override {
    y_.write_back(env, element(env, arguments, kY), type(), static_cast<size_t>(tokens_) * plan_->d1, "y");
    return nullptr;
  }

 private:
  static constexpr uint32_t kY = 6;
  Numbers x_, y_;
};

// A new array of numbers, written off JavaScript's thread. JavaScript receives it at the end of the call.
class NewNumbers {
 public:
  // `argument`: an argument of the function that is no longer needed. The array replaces it and is kept alive with the arguments.
  void create(napi_env env, size_t length, napi_value& argument) {
    void* data = nullptr;
    argument = array_buffer_of(env, length * sizeof(float), data);
    data_ = static_cast<float*>(data);
  }
  float* data() const { return data_; }

 private:
  float* data_ = nullptr;
};

// backward(plan, coefficients, scalings, dtype, x, gradY, adapterOfRow | null, gradX | null, done(error, gradCoefficients))
class Backward : public Call {
 public:
  // ∂L/∂c replaces the plan's number among the arguments.
  static constexpr uint32_t kGradCoefficients = 0;

  Backward(napi_env env, napi_value (&v)[9]) : Call(env, v) {
    const char* const mismatch = "x [T, d2], gradY [T, d1], gradX and rows [T] do not fit one another";
    read_dtype(env, v[3]);
    const TypedArray x = activations(env, v[4]), grad_y = activations(env, v[5]);
    tokens_ = tokens_of(x, plan_->d2, mismatch);
    if (tokens_of(grad_y, plan_->d1, mismatch) != tokens_) throw Failure{mismatch, "SHAPE_MISMATCH"};
    read_rows(env, v[6], mismatch);
    wants_x_ = !is_absent(env, v[kGradX]);
    if (wants_x_) {
      const TypedArray grad_x = activations(env, v[kGradX]);
      if (grad_x.length != x.length) throw Failure{mismatch, "SHAPE_MISMATCH"};
      grad_x_ = Numbers(copy_buffers_, grad_x);
    }
    x_ = Numbers(copy_buffers_, x);
    grad_y_ = Numbers(copy_buffers_, grad_y);
    grad_coefficients_.create(env, static_cast<size_t>(adapters_) * plan_->n, v[kGradCoefficients]);
  }

  fourierft_status compute(const fourierft_plan* plan, const fourierft_runner& runner) override {
    return fourierft_backward(plan, coefficients_.as<float>(), adapters_, scalings_.as<float>(), dtype_, x_.as<>(), grad_y_.as<>(), tokens_,
                              rows(), grad_coefficients_.data(), wants_x_ ? grad_x_.as<>() : nullptr, &runner);
  }

  napi_value result(napi_env env, napi_value arguments) override {
    if (wants_x_)
      grad_x_.write_back(env, element(env, arguments, kGradX), type(), static_cast<size_t>(tokens_) * plan_->d2, "gradX");
    return element(env, arguments, kGradCoefficients);
  }

 private:
  static constexpr uint32_t kGradX = 7;
  Numbers x_, grad_y_, grad_x_;
  NewNumbers grad_coefficients_;
  bool wants_x_ = false;
};

// delta(plan, coefficients, scalings, done(error, delta))
class Delta : public Call {
 public:
  static constexpr uint32_t kDelta = 0;

  Delta(napi_env env, napi_value (&v)[4]) : Call(env, v) {
    delta_.create(env, static_cast<size_t>(plan_->d1) * plan_->d2, v[kDelta]);
  }

  fourierft_status compute(const fourierft_plan* plan, const fourierft_runner& runner) override {
    return fourierft_delta(plan, coefficients_.as<float>(), adapters_, scalings_.as<float>(), delta_.data(), &runner);
  }

  napi_value result(napi_env env, napi_value arguments) override { return element(env, arguments, kDelta); }

 private:
  NewNumbers delta_;
};

template <class Kind, size_t N>
napi_value call(napi_env env, napi_callback_info info) {
  return guarded<N>(env, info, [&](napi_value (&v)[N]) -> napi_value {
    auto job = std::make_unique<Kind>(env, v);
    fourierft::Job::start(env, std::move(job), v);
    return nullptr;
  });
}

napi_value register_tensorflow(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [&](const napi_value (&v)[1]) -> napi_value {
    fourierft::register_tensorflow_operators(text(env, v[0]));
    return nullptr;
  });
}

napi_value instructions(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, [&](const auto&) { return string_of(env, fourierft_instructions()); });
}

// Counts the live objects of all environments in the process. All counts are 0 when all environments have ended.
napi_value live(napi_env env, napi_callback_info info) {
  return guarded<0>(env, info, [&](const auto&) {
    const napi_value counts = object_of(env);
    set(env, counts, "plans", number_of(env, static_cast<double>(plans().count())));
    set(env, counts, "sessions", number_of(env, static_cast<double>(fourierft::onnxruntime::session_count())));
    set(env, counts, "deviceValues", number_of(env, static_cast<double>(fourierft::onnxruntime::device_value_count())));
    set(env, counts, "jobs", number_of(env, static_cast<double>(fourierft::Job::count())));
    return counts;
  });
}

napi_value initialise(napi_env env, napi_value exports) {
  try {
    // The pool's threads and the operators registered in other libraries outlive the worker that loaded this library.
    fourierft::keep_this_library();
    auto instance = std::make_unique<Instance>();
    check(env, napi_set_instance_data(env, instance.get(), [](napi_env, void* data, void*) { delete static_cast<Instance*>(data); }, nullptr));
    instance.release();
    namespace onnxruntime = fourierft::onnxruntime;
    const std::pair<const char*, napi_callback> functions[] = {
        {"createPlan", create_plan},
        {"destroyPlan", destroy_plan},
        {"forward", call<Forward, 8>},
        {"backward", call<Backward, 9>},
        {"delta", call<Delta, 4>},
        {"registerTensorFlow", register_tensorflow},
        {"openOnnxRuntime", onnxruntime::open_onnxruntime},
        {"openCudaLibrary", onnxruntime::open_cuda},
        {"createOnnxSession", onnxruntime::create_session},
        {"runOnnxSession", onnxruntime::run_session},
        {"releaseOnnxSession", onnxruntime::release_session},
        {"readDeviceValue", onnxruntime::read_device_value},
        {"releaseDeviceValue", onnxruntime::release_device_value},
        {"instructions", instructions},
        {"live", live},
    };
    for (const auto& [name, function] : functions) {
      napi_value value = nullptr;
      check(env, napi_create_function(env, name, NAPI_AUTO_LENGTH, function, nullptr, &value));
      set(env, exports, name, value);
    }
  } catch (const Interrupted&) {
  } catch (const Failure& failure) {
    throw_in(env, failure);
  } catch (const std::exception& error) {
    throw_in(env, {error.what()});
  }
  return exports;
}

}  // namespace

NAPI_MODULE(fourierft, initialise)
