// The operators of the domain `fourierft` for ONNX Runtime.
//
//   FourierFT(x [..., d2], base [..., d1], coefficients [A, n], rows int64 [R], entries int64 [2, n], tables...) -> y = base + dy
//   FourierFTGrad(x, grad_y, base [..., d2], coefficients, rows, entries, tables...) -> grad_coefficients [A, n], grad_x = base + dx
//
// Coefficients include alpha. rows[r] is the adapter of the tokens r T/R ... (r+1) T/R - 1, or -1 for none. Without adapters (A = 0) y equals
// the base, bit for bit. The tables belong to the portable function of the same name, which the operator replaces; the operator does not read
// them.
#include "onnxruntime-operator.h"

#include <atomic>
#include <cstdlib>
#include <map>

namespace fourierft::onnxruntime {
namespace {

constexpr int kRequired = 0, kVariadic = 2;         // OrtCustomOpInputOutputCharacteristic
constexpr int kDefaultMemory = 0, kCpuMemory = -2;  // OrtMemType

// The indices of a node's inputs. The tables are one variadic input.
struct Indices {
  size_t base, coefficients, rows, entries, tables;
};
constexpr Indices kForward{1, 2, 3, 4, 5}, kGradient{2, 3, 4, 5, 6};

const FourierFTOperator& self(const Operator* op) { return *static_cast<const FourierFTOperator*>(op); }
const Indices& indices(const Operator* op) { return self(op).is_gradient ? kGradient : kForward; }

// Copies the shape of an input to an output. Otherwise the optimiser would not know the shapes after the first of these nodes and would not fuse
// the nodes that follow: they would be slower, and round differently than without adapters.
void copy_shape(Handle context, size_t output, size_t input) {
  Handle info = nullptr;  // owned by the context
  check(api.ShapeInferContext_GetInputTypeShape(context, input, &info));
  size_t rank = 0;
  check(api.GetDimensionsCount(info, &rank));
  if (rank == 0) return;  // ONNX Runtime reports an unknown rank as 0; activations are never scalars
  std::vector<int64_t> dims(rank);
  std::vector<const char*> names(rank);
  check(api.GetDimensions(info, dims.data(), rank));
  check(api.GetSymbolicDimensions(info, names.data(), rank));
  // An unknown size without a name would be passed on as -1, so it gets a new name.
  static std::atomic<uint64_t> unnamed{0};
  std::vector<std::string> names_in_output(rank);
  for (size_t i = 0; i < rank; i++) {
    names_in_output[i] = names[i];
    if (dims[i] < 0 && names_in_output[i].empty()) names_in_output[i] = "fourierft_unknown_" + std::to_string(unnamed++);
  }
  for (size_t i = 0; i < rank; i++) names[i] = names_in_output[i].c_str();
  check(api.SetSymbolicDimensions(info, names.data(), rank));
  check(api.ShapeInferContext_SetOutputTypeShape(context, output, info));
}

// Tells ONNX Runtime that an output may use the memory of an input.
template <size_t kInput, size_t kOutput>
size_t reuse(int** inputs, int** outputs) {
  *inputs = static_cast<int*>(std::malloc(sizeof(int)));
  *outputs = static_cast<int*>(std::malloc(sizeof(int)));
  **inputs = static_cast<int>(kInput);
  **outputs = static_cast<int>(kOutput);
  return 1;
}

FourierFTOperator make(bool is_gradient, Type activations, const CudaLibrary* cuda) {
  FourierFTOperator op{};
  op.is_gradient = is_gradient;
  op.activations = activations;
  op.cuda = cuda;
  op.version = kApiVersion;
  op.name = [](const Operator* op) { return self(op).node(); };
  op.provider = [](const Operator* op) {
    return self(op).cuda != nullptr && self(op).cuda->is_on_device() ? "CUDAExecutionProvider" : "CPUExecutionProvider";
  };
  op.input_count = [](const Operator* op) { return indices(op).tables + 1; };
  op.input_type = [](const Operator* op, size_t index) -> int {
    const Indices& at = indices(op);
    if (index < at.coefficients) return self(op).activations;
    return index == at.coefficients ? kFloat : index < at.tables ? kInt64 : 0;  // 0: tables of any type
  };
  op.input_characteristic = [](const Operator* op, size_t index) { return index < indices(op).tables ? kRequired : kVariadic; };
  // The CPU checks the rows, and makes the plan from the entries. The tables are not read, and ONNX Runtime keeps only the first of them there.
  op.input_memory = [](const Operator* op, size_t index) { return index < indices(op).rows ? kDefaultMemory : kCpuMemory; };
  op.variadic_input_minimum = [](const Operator*) { return 0; };
  op.variadic_input_homogeneous = [](const Operator*) { return 0; };
  op.variadic_output_minimum = [](const Operator*) { return 1; };
  op.variadic_output_homogeneous = [](const Operator*) { return 1; };
  op.output_count = [](const Operator* op) -> size_t { return self(op).is_gradient ? 2 : 1; };
  op.output_type = [](const Operator* op, size_t index) -> int {
    return self(op).is_gradient && index == 0 ? kFloat : self(op).activations;
  };
  op.output_characteristic = [](const Operator*, size_t) { return kRequired; };
  op.first_version = [](const Operator*) { return 1; };
  op.last_version = [](const Operator*) { return INT32_MAX; };
  op.infer_shape = [](const Operator* op, Handle context) -> StatusHandle {
    return checked([&] {
      copy_shape(context, 0, self(op).is_gradient ? indices(op).coefficients : indices(op).base);
      if (self(op).is_gradient) copy_shape(context, 1, 0);
    });
  };
  // y and grad_x may use the base's memory.
  op.in_place = is_gradient ? reuse<kGradient.base, 1> : reuse<kForward.base, 0>;
  op.release_in_place = [](int* inputs, int* outputs) {
    std::free(inputs);
    std::free(outputs);
  };
  if (cuda == nullptr) {
    set_cpu_kernel(op);
  } else {
    set_cuda_kernel(op);
  }
  return op;
}

void add_operators(Handle domain, const CudaLibrary* cuda) {
  for (const bool is_gradient : {false, true})
    for (const Type activations : {kFloat, kFloat16, kBfloat16})
      check(api.CustomOpDomain_Add(domain, new FourierFTOperator(make(is_gradient, activations, cuda))));  // never deleted
}

}  // namespace

View::View(Handle value) {
  Handle info = nullptr;
  check(api.GetTensorTypeAndShape(value, &info));
  const std::unique_ptr<void, void (*)(Handle)> released(info, api.ReleaseTensorTypeAndShapeInfo);
  size_t rank = 0;
  check(api.GetDimensionsCount(info, &rank));
  dims.resize(rank);
  check(api.GetDimensions(info, dims.data(), rank));
  check(api.GetTensorMutableData(value, &data));
}

View View::input(Handle context, size_t index) {
  Handle value = nullptr;
  check(api.KernelContext_GetInput(context, index, &value));
  return View(value);
}

View View::output(Handle context, size_t index, const std::vector<int64_t>& dims) {
  Handle value = nullptr;
  check(api.KernelContext_GetOutput(context, index, dims.data(), dims.size(), &value));
  View view;
  view.dims = dims;
  check(api.GetTensorMutableData(value, &view.data));
  return view;
}

int64_t View::count() const {
  int64_t product = 1;
  for (const int64_t dim : dims) product *= dim;
  return product;
}

bool is_inactive(Handle context) {
  Handle value = nullptr, info = nullptr;
  check(api.KernelContext_GetInput(context, kCoefficients, &value));
  check(api.GetTensorTypeAndShape(value, &info));
  const std::unique_ptr<void, void (*)(Handle)> released(info, api.ReleaseTensorTypeAndShapeInfo);
  size_t count = 0;
  check(api.GetTensorShapeElementCount(info, &count));
  return count == 0;
}

Inputs::Inputs(const FourierFTOperator& op, Handle context)
    : op(op),
      x(View::input(context, 0)),
      other(View::input(context, 1)),
      grad_base(op.is_gradient ? View::input(context, kGradient.base) : View()),
      coefficients(View::input(context, indices(&op).coefficients)),
      rows(View::input(context, indices(&op).rows)),
      entries(View::input(context, indices(&op).entries)) {
  if (x.dims.empty() || other.dims.empty()) fail("expected activations [..., in] and [..., out]; received scalars");
  d2 = x.dims.back();
  d1 = other.dims.back();
  if (d1 <= 0 || d2 <= 0 || x.count() / d2 != other.count() / d1) fail("expected the same number of tokens in both activations");
  if (op.is_gradient && grad_base.dims != x.dims) fail("base: expected the shape of x");
  tokens = x.count() / d2;
  if (coefficients.dims.size() != 2 || entries.dims.size() != 2 || entries.dims[0] != 2 || entries.dims[1] != coefficients.dims[1])
    fail("expected coefficients [adapters, n] and entries [2, n]");
  adapters = coefficients.dims[0];
  n = coefficients.dims[1];
  const int64_t count = rows.count();
  if (!is_empty() && (count == 0 || tokens % count != 0))
    fail("rows: expected a divisor of " + std::to_string(tokens) + " tokens; received " + std::to_string(count) + " rows");
}

const int64_t* Inputs::checked_rows() const {
  const auto* indices = rows.as<int64_t>();
  const int64_t count = rows.count();
  for (int64_t r = 0; r < count; r++)
    if (indices[r] < -1 || indices[r] >= adapters)
      fail("rows[" + std::to_string(r) + "]: expected -1 ... " + std::to_string(adapters - 1) + "; received " + std::to_string(indices[r]));
  return indices;
}

void Inputs::fail(const std::string& message) const { throw Failure{std::string(op.node()) + ": " + message}; }

Handle operator_domain(const CudaLibrary* cuda) {
  static std::mutex& mutex = *new std::mutex;
  static auto& domains = *new std::map<const CudaLibrary*, Handle>;
  std::lock_guard<std::mutex> lock(mutex);
  Handle& domain = domains[cuda];
  if (domain != nullptr) return domain;
  Handle created = nullptr;
  check(api.CreateCustomOpDomain("fourierft", &created));
  if (cuda != nullptr) add_operators(created, cuda);
  // Nodes that ONNX Runtime places on the CPU need the CPU's operators, unless those of `cuda` already run there.
  if (cuda == nullptr || cuda->is_on_device()) add_operators(created, nullptr);
  return domain = created;
}

}  // namespace fourierft::onnxruntime
