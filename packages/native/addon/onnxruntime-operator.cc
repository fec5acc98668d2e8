// The operators of the domain `fourierft` for ONNX Runtime on a CPU.
//
//   FourierFT(x [..., d2], base [..., d1], coefficients [A, n], rows int64 [R], entries int64 [2, n], tables...) -> y = base + dy
//   FourierFTGrad(x, grad_y, coefficients, rows, entries, tables...) -> grad_coefficients [A, n], grad_x [..., d2]
//
// Coefficients carry alpha. Row r of R names the adapter of the tokens r T/R ... (r+1) T/R - 1, or -1 for none. Without adapters (A = 0) y has
// the base's bits. The tables are those of the portable function of the same name, which this takes the place of; they are not read.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "fourierft/fourierft.h"
#include "onnxruntime-api.h"
#include "entries-plan.h"

namespace fourierft::onnxruntime {
namespace {

constexpr int kInvalidArgument = 2, kRequired = 0, kVariadic = 2;  // OrtErrorCode; OrtCustomOpInputOutputCharacteristic
constexpr size_t kInputs = 5, kTables = 5;                         // `kTables`: the index of the variadic tail

struct FourierFTOperator : Operator {
  bool is_gradient;
  Type activations;
};

struct Kernel {
  const FourierFTOperator* op;
  std::mutex mutex;
  std::shared_ptr<const EntriesPlan> plan;  // of the last call; entries are constants as a rule
};

// A tensor of the kernel's context: a view.
struct View {
  Handle value = nullptr;
  void* data = nullptr;
  std::vector<int64_t> dims;

  explicit View(Handle value) : value(value) {
    Handle info = nullptr;
    check(api.GetTensorTypeAndShape(value, &info));
    const std::unique_ptr<void, void (*)(Handle)> released(info, api.ReleaseTensorTypeAndShapeInfo);
    size_t rank = 0;
    check(api.GetDimensionsCount(info, &rank));
    dims.resize(rank);
    check(api.GetDimensions(info, dims.data(), rank));
    check(api.GetTensorMutableData(value, &data));
  }
  int64_t count() const {
    int64_t product = 1;
    for (const int64_t dim : dims) product *= dim;
    return product;
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

View input(Handle context, size_t index) {
  Handle value = nullptr;
  check(api.KernelContext_GetInput(context, index, &value));
  return View(value);
}

View output(Handle context, size_t index, const std::vector<int64_t>& dims) {
  Handle value = nullptr;
  check(api.KernelContext_GetOutput(context, index, dims.data(), dims.size(), &value));
  return View(value);
}

// Parts of a call on the session's own threads.
fourierft_runner session_threads(Handle context) {
  return {[](void* context, int count, void (*body)(void*, int), void* argument) {
            struct Part {
              void (*body)(void*, int);
              void* argument;
            } part{body, argument};
            const auto run = [](void* part, size_t index) {
              static_cast<Part*>(part)->body(static_cast<Part*>(part)->argument, static_cast<int>(index));
            };
            const StatusHandle status =
                api.KernelContext_ParallelFor(context, run, static_cast<size_t>(count), static_cast<size_t>(count), &part);
            if (status == nullptr) return;
            // A session without threads of its own: the calling thread does all. The body has not been called then.
            api.ReleaseStatus(status);
            for (int index = 0; index < count; index++) body(argument, index);
          },
          context};
}

// What both operators are given, checked.
struct Call {
  View x, other, coefficients, rows, entries;
  std::shared_ptr<const EntriesPlan> plan;
  int64_t tokens = 0, adapters = 0, n = 0;
  std::vector<int32_t> choice;  // of each token; empty: all tokens use adapter `only`
  int64_t only = 0;             // -1: none

  Call(Kernel& kernel, Handle context)
      : x(input(context, 0)), other(input(context, 1)), coefficients(input(context, 2)), rows(input(context, 3)), entries(input(context, 4)) {
    const char* name = kernel.op->is_gradient ? "FourierFTGrad" : "FourierFT";
    const auto fail = [&](const std::string& message) { throw Failure{std::string(name) + ": " + message}; };
    if (x.dims.empty() || other.dims.empty()) fail("the activations are scalars; expected [..., in] and [..., out]");
    const int64_t d2 = x.dims.back(), d1 = other.dims.back();
    if (d1 <= 0 || d2 <= 0 || x.count() / d2 != other.count() / d1) fail("x and its partner hold different numbers of tokens");
    tokens = x.count() / d2;
    if (coefficients.dims.size() != 2 || entries.dims.size() != 2 || entries.dims[0] != 2 || entries.dims[1] != coefficients.dims[1])
      fail("expected coefficients [adapters, n] and entries [2, n]");
    adapters = coefficients.dims[0];
    n = coefficients.dims[1];
    if (adapters == 0 || n == 0 || tokens == 0) {
      adapters = 0;
      return;
    }
    choose(fail);
    const auto* numbers = entries.as<int64_t>();
    std::lock_guard<std::mutex> lock(kernel.mutex);
    if (kernel.plan == nullptr || !kernel.plan->is_of(d1, d2, n, numbers)) {
      std::string wrong;
      kernel.plan = shared_plan(d1, d2, n, numbers, wrong);
      if (kernel.plan == nullptr) fail(wrong);
    }
    plan = kernel.plan;
  }

  // From one adapter for each row to one for each token.
  template <class Fail>
  void choose(const Fail& fail) {
    const int64_t count = rows.count();
    const auto* indices = rows.as<int64_t>();
    if (count == 0 || tokens % count != 0)
      fail("rows: " + std::to_string(count) + " of them do not divide " + std::to_string(tokens) + " tokens");
    for (int64_t r = 0; r < count; r++)
      if (indices[r] < -1 || indices[r] >= adapters)
        fail("rows[" + std::to_string(r) + "] is " + std::to_string(indices[r]) + "; there are " + std::to_string(adapters) + " adapters");
    if (count == 1) {
      only = indices[0];
      return;
    }
    choice.resize(static_cast<size_t>(tokens));
    const int64_t each = tokens / count;
    for (int64_t t = 0; t < tokens; t++) choice[static_cast<size_t>(t)] = static_cast<int32_t>(indices[t / each]);
  }

  bool is_idle() const { return adapters == 0 || (choice.empty() && only < 0); }
  const int32_t* adapter_of_row() const { return choice.empty() ? nullptr : choice.data(); }
  int32_t adapters_used() const { return choice.empty() ? 1 : static_cast<int32_t>(adapters); }
  const float* used_coefficients() const { return coefficients.as<float>() + (choice.empty() ? only * n : 0); }
};

fourierft_dtype dtype_of(const Kernel& kernel) {
  switch (kernel.op->activations) {
    case kFloat16: return FOURIERFT_FLOAT16;
    case kBfloat16: return FOURIERFT_BFLOAT16;
    default: return FOURIERFT_FLOAT32;
  }
}

size_t bytes_of(const Kernel& kernel) { return kernel.op->activations == kFloat ? 4 : 2; }

void check(fourierft_status status) {
  if (status == FOURIERFT_OUT_OF_MEMORY) throw Failure{"FourierFT: out of memory"};
  if (status != FOURIERFT_OK) throw Failure{"FourierFT: the kernel refused its arguments"};
}

void forward(Kernel& kernel, Handle context) {
  const Call call(kernel, context);
  const View y = output(context, 0, call.other.dims);
  if (y.data != call.other.data) std::memcpy(y.data, call.other.data, static_cast<size_t>(y.count()) * bytes_of(kernel));
  if (call.is_idle()) return;
  const std::vector<float> scalings(static_cast<size_t>(call.adapters_used()), 1.0f);
  const fourierft_runner runner = session_threads(context);
  check(fourierft_forward(call.plan->plan, call.used_coefficients(), call.adapters_used(), scalings.data(), dtype_of(kernel), call.x.data,
                          call.tokens, call.adapter_of_row(), y.data, &runner));
}

void backward(Kernel& kernel, Handle context) {
  const Call call(kernel, context);
  const View grad_coefficients = output(context, 0, call.coefficients.dims);
  const View grad_x = output(context, 1, call.x.dims);
  std::memset(grad_coefficients.data, 0, static_cast<size_t>(grad_coefficients.count()) * sizeof(float));
  std::memset(grad_x.data, 0, static_cast<size_t>(grad_x.count()) * bytes_of(kernel));
  if (call.is_idle()) return;
  const std::vector<float> scalings(static_cast<size_t>(call.adapters_used()), 1.0f);
  const fourierft_runner runner = session_threads(context);
  float* numbers = grad_coefficients.as<float>() + (call.choice.empty() ? call.only * call.n : 0);
  check(fourierft_backward(call.plan->plan, call.used_coefficients(), call.adapters_used(), scalings.data(), dtype_of(kernel), call.x.data,
                           call.other.data, call.tokens, call.adapter_of_row(), numbers, grad_x.data, &runner));
}

StatusHandle compute(Handle handle, Handle context) {
  Kernel& kernel = *static_cast<Kernel*>(handle);
  try {
    if (kernel.op->is_gradient) {
      backward(kernel, context);
    } else {
      forward(kernel, context);
    }
    return nullptr;
  } catch (const Failure& failure) {
    return api.CreateStatus(kInvalidArgument, failure.message.c_str());
  } catch (const std::exception& error) {
    return api.CreateStatus(kInvalidArgument, error.what());
  }
}

const FourierFTOperator& self(const Operator* op) { return *static_cast<const FourierFTOperator*>(op); }

FourierFTOperator make(bool is_gradient, Type activations) {
  FourierFTOperator op{};
  op.is_gradient = is_gradient;
  op.activations = activations;
  op.version = kApiVersion;
  op.name = [](const Operator* op) { return self(op).is_gradient ? "FourierFTGrad" : "FourierFT"; };
  op.provider = [](const Operator*) { return "CPUExecutionProvider"; };
  op.input_count = [](const Operator*) { return kInputs + 1; };
  op.input_type = [](const Operator* op, size_t index) -> int {
    if (index < 2) return self(op).activations;
    return index == 3 || index == 4 ? kInt64 : index == 2 ? kFloat : 0;  // 0: tables of whatever type
  };
  op.input_characteristic = [](const Operator*, size_t index) { return index < kTables ? kRequired : kVariadic; };
  op.input_memory = [](const Operator*, size_t) { return 0; };
  op.variadic_input_minimum = [](const Operator*) { return 0; };
  op.variadic_input_homogeneous = [](const Operator*) { return 0; };
  op.variadic_output_minimum = [](const Operator*) { return 1; };
  op.variadic_output_homogeneous = [](const Operator*) { return 1; };
  op.output_count = [](const Operator* op) -> size_t { return self(op).is_gradient ? 2 : 1; };
  op.output_type = [](const Operator* op, size_t index) -> int {
    return self(op).is_gradient && index == 0 ? kFloat : self(op).activations;
  };
  op.output_characteristic = [](const Operator*, size_t) { return kRequired; };
  op.create = [](const Operator* op, const void*, Handle) -> Handle { return new Kernel{&self(op), {}, {}}; };
  op.create_checked = [](const Operator* op, const void*, Handle, Handle* kernel) -> StatusHandle {
    *kernel = new Kernel{&self(op), {}, {}};
    return nullptr;
  };
  op.compute = [](Handle kernel, Handle context) {
    if (const StatusHandle status = onnxruntime::compute(kernel, context)) api.ReleaseStatus(status);
  };
  op.compute_checked = onnxruntime::compute;
  op.destroy = [](Handle kernel) { delete static_cast<Kernel*>(kernel); };
  op.first_version = [](const Operator*) { return 1; };
  op.last_version = [](const Operator*) { return INT32_MAX; };
  // y may take the base's memory.
  op.in_place = [](int** inputs, int** outputs) -> size_t {
    *inputs = static_cast<int*>(std::malloc(sizeof(int)));
    *outputs = static_cast<int*>(std::malloc(sizeof(int)));
    **inputs = 1;
    **outputs = 0;
    return 1;
  };
  op.release_in_place = [](int* inputs, int* outputs) {
    std::free(inputs);
    std::free(outputs);
  };
  if (is_gradient) op.in_place = nullptr;
  op.aliases = nullptr;
  return op;
}

}  // namespace

Handle operator_domain() {
  static const FourierFTOperator operators[] = {make(false, kFloat), make(false, kFloat16), make(false, kBfloat16),
                                                make(true, kFloat),  make(true, kFloat16),  make(true, kBfloat16)};
  static const Handle domain = [] {
    Handle created = nullptr;
    check(api.CreateCustomOpDomain("fourierft", &created));
    for (const FourierFTOperator& op : operators) check(api.CustomOpDomain_Add(created, &op));
    return created;
  }();
  return domain;
}

}  // namespace fourierft::onnxruntime
