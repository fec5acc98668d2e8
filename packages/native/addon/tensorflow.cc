// The TensorFlow operators. No TensorFlow header is needed: the functions of the C API are found by name in the library that the user's own
// tfjs-node has loaded, and their types are opaque.
//
//   FourierFT(base [..., d1], x [..., d2], coefficients [A, n] or [n], scalings [A],
//             adapter_of_row int32 [T] or [0]; plan, in_place)
//     -> y = base + dy
//   FourierFTGrad(base [..., d2] or [0], x, grad_y, coefficients, scalings, adapter_of_row; plan, in_place)
//     -> grad_x = base + dx, grad_coefficients in the shape of coefficients
//
// With in_place the output uses the buffer of `base`. The caller must have made the buffer, must not share it and must not read it again.
// TF_ForwardInputOrAllocateOutput cannot do this: it needs a buffer with a single reference, and the handle of an eager tensor holds another.
#include "tensorflow.h"

#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <type_traits>

#include "failure.h"
#include "fourierft/fourierft.h"
#include "library.h"
#include "plans.h"
#include "pool.h"

namespace fourierft {
namespace {

constexpr int kFloat = 1, kInt32 = 3;     // TF_DataType
constexpr int kInvalidArgument = 3;       // TF_Code

struct Api {
  void* (*NewStatus)();
  void (*DeleteStatus)(void*);
  void (*SetStatus)(void*, int, const char*);
  int (*GetCode)(const void*);
  const char* (*Message)(const void*);
  void* (*NewOpDefinitionBuilder)(const char*);
  void (*OpDefinitionBuilderAddInput)(void*, const char*);
  void (*OpDefinitionBuilderAddOutput)(void*, const char*);
  void (*OpDefinitionBuilderAddAttr)(void*, const char*);
  void (*RegisterOpDefinition)(void*, void*);
  void* (*NewKernelBuilder)(const char*, const char*, void* (*)(void*), void (*)(void*, void*), void (*)(void*));
  void (*RegisterKernelBuilder)(const char*, void*, void*);
  void (*OpKernelConstruction_GetAttrInt64)(void*, const char*, int64_t*, void*);
  void (*OpKernelConstruction_GetAttrBool)(void*, const char*, unsigned char*, void*);
  void (*OpKernelConstruction_Failure)(void*, void*);
  void (*OpKernelContext_Failure)(void*, void*);
  void (*GetInput)(void*, int, void**, void*);
  void (*SetOutput)(void*, int, const void*, void*);
  void* (*AllocateOutput)(void*, int, int, const int64_t*, int, size_t, void*);
  int (*TensorType)(const void*);
  int (*NumDims)(const void*);
  int64_t (*Dim)(const void*, int);
  void* (*TensorData)(const void*);
  int64_t (*TensorElementCount)(const void*);
  void (*DeleteTensor)(void*);
} tf;

// Loads the functions. Returns null, or the name of a missing function.
const char* load_functions(Library library) {
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(library_function(library, name));
    return function != nullptr;
  };
#define FOURIERFT_FIND(name) \
  if (!find(tf.name, "TF_" #name)) return "TF_" #name
  FOURIERFT_FIND(NewStatus);
  FOURIERFT_FIND(DeleteStatus);
  FOURIERFT_FIND(SetStatus);
  FOURIERFT_FIND(GetCode);
  FOURIERFT_FIND(Message);
  FOURIERFT_FIND(NewOpDefinitionBuilder);
  FOURIERFT_FIND(OpDefinitionBuilderAddInput);
  FOURIERFT_FIND(OpDefinitionBuilderAddOutput);
  FOURIERFT_FIND(OpDefinitionBuilderAddAttr);
  FOURIERFT_FIND(RegisterOpDefinition);
  FOURIERFT_FIND(NewKernelBuilder);
  FOURIERFT_FIND(RegisterKernelBuilder);
  FOURIERFT_FIND(OpKernelConstruction_GetAttrInt64);
  FOURIERFT_FIND(OpKernelConstruction_GetAttrBool);
  FOURIERFT_FIND(OpKernelConstruction_Failure);
  FOURIERFT_FIND(OpKernelContext_Failure);
  FOURIERFT_FIND(GetInput);
  FOURIERFT_FIND(SetOutput);
  FOURIERFT_FIND(AllocateOutput);
  FOURIERFT_FIND(TensorType);
  FOURIERFT_FIND(NumDims);
  FOURIERFT_FIND(Dim);
  FOURIERFT_FIND(TensorData);
  FOURIERFT_FIND(TensorElementCount);
  FOURIERFT_FIND(DeleteTensor);
#undef FOURIERFT_FIND
  return nullptr;
}

class Status {
 public:
  Status() : handle_(tf.NewStatus()) {}
  ~Status() { tf.DeleteStatus(handle_); }
  Status(const Status&) = delete;
  Status& operator=(const Status&) = delete;
  operator void*() const { return handle_; }
  bool ok() const { return tf.GetCode(handle_) == 0; }
  std::string message() const { return tf.Message(handle_); }

 private:
  void* handle_;
};

class Tensor {
 public:
  explicit Tensor(void* handle = nullptr) : handle_(handle) {}
  ~Tensor() {
    if (handle_ != nullptr) tf.DeleteTensor(handle_);
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  void** slot() { return &handle_; }
  void* handle() const { return handle_; }
  int64_t count() const { return tf.TensorElementCount(handle_); }
  int rank() const { return tf.NumDims(handle_); }
  int64_t dim(int index) const { return tf.Dim(handle_, index); }
  int64_t last() const { return rank() == 0 ? 1 : dim(rank() - 1); }
  template <class T>
  T* data() const {
    return static_cast<T*>(tf.TensorData(handle_));
  }
  bool is(int type) const { return tf.TensorType(handle_) == type; }

 private:
  void* handle_;
};

struct Kernel {
  int64_t number = 0;
  unsigned char in_place = 0;
};

void* create(void* construction) {
  const Status status;
  auto* kernel = new Kernel;
  tf.OpKernelConstruction_GetAttrInt64(construction, "plan", &kernel->number, status);
  if (status.ok()) tf.OpKernelConstruction_GetAttrBool(construction, "in_place", &kernel->in_place, status);
  if (!status.ok()) tf.OpKernelConstruction_Failure(construction, status);
  return kernel;
}

void destroy(void* kernel) { delete static_cast<Kernel*>(kernel); }

void fail(void* context, const std::string& message) {
  const Status status;
  tf.SetStatus(status, kInvalidArgument, message.c_str());
  tf.OpKernelContext_Failure(context, status);
}

// The inputs of one call, read and checked.
struct Inputs {
  std::shared_ptr<const NumberedPlan> plan;
  const fourierft_plan* tables = nullptr;
  Tensor base, x, grad_y, coefficients, scalings, adapter_of_row_;
  int64_t tokens = 0;
  int32_t adapters = 0;
  bool in_place = false;

  // Returns an empty string, or the problem.
  std::string read(void* kernel, void* context, bool gradient) {
    plan = plans().find(static_cast<Kernel*>(kernel)->number);
    if (plan == nullptr) return "FourierFT: the plan has been disposed of";
    tables = plan->get();
    if (tables == nullptr) return "FourierFT: out of memory";
    in_place = static_cast<Kernel*>(kernel)->in_place != 0;
    int index = 0;
    for (Tensor* tensor : {&base, &x, &grad_y, &coefficients, &scalings, &adapter_of_row_}) {
      if (tensor == &grad_y && !gradient) continue;
      const Status status;
      tf.GetInput(context, index++, tensor->slot(), status);
      if (!status.ok()) return status.message();
      if (!tensor->is(tensor == &adapter_of_row_ ? kInt32 : kFloat)) return "FourierFT: expected float inputs and an int32 adapter_of_row";
    }
    if (x.rank() < 1 || x.rank() > kMaxDimensions || x.last() != plan->d2) return mismatch("x");
    tokens = x.count() / plan->d2;
    if (gradient && !fits(grad_y, plan->d1)) return mismatch("grad_y");
    const bool has_no_base = gradient && base.count() == 0 && !in_place;
    if (!has_no_base && !fits(base, gradient ? plan->d2 : plan->d1)) return mismatch("base");
    if (coefficients.rank() < 1 || coefficients.rank() > 2 || coefficients.last() != plan->n ||
        scalings.count() != coefficients.count() / plan->n || scalings.count() > INT32_MAX)
      return "FourierFT: expected coefficients [adapters, " + std::to_string(plan->n) + "] and scalings [adapters]";
    adapters = static_cast<int32_t>(scalings.count());
    if (adapter_of_row_.count() != 0 && adapter_of_row_.count() != tokens)
      return "FourierFT: expected adapter_of_row with one adapter for each row, or empty";
    return "";
  }
  const int32_t* adapter_of_row() const { return adapter_of_row_.count() == 0 ? nullptr : adapter_of_row_.data<int32_t>(); }

 private:
  static constexpr int kMaxDimensions = 16;
  bool fits(const Tensor& tensor, int64_t width) const {
    return tensor.rank() >= 1 && tensor.rank() <= kMaxDimensions && tensor.last() == width && tensor.count() == tokens * width;
  }
  std::string mismatch(const char* name) const {
    return std::string("FourierFT: ") + name + " does not fit a layer of " + std::to_string(plan->d1) + " x " + std::to_string(plan->d2);
  }
};

void* allocate_like(void* context, int index, const Tensor& like, const Status& status) {
  int64_t dims[16];
  const int rank = like.rank();
  for (int i = 0; i < rank; i++) dims[i] = like.dim(i);
  return tf.AllocateOutput(context, index, kFloat, dims, rank, static_cast<size_t>(like.count()) * sizeof(float), status);
}

// Makes output 0 in the shape of `like` and fills it with the numbers that the branch is added to.
float* start_output(void* context, const Inputs& in, const Tensor& like, const Status& status) {
  if (in.in_place) {
    tf.SetOutput(context, 0, in.base.handle(), status);
    return in.base.data<float>();
  }
  const Tensor output(allocate_like(context, 0, like, status));
  if (!status.ok()) return nullptr;
  const size_t bytes = static_cast<size_t>(like.count()) * sizeof(float);
  if (in.base.count() == 0) std::memset(output.data<float>(), 0, bytes);
  else std::memcpy(output.data<float>(), in.base.data<float>(), bytes);
  return output.data<float>();
}

std::string problem_of(fourierft_status status) {
  switch (status) {
    case FOURIERFT_OK: return "";
    case FOURIERFT_OUT_OF_MEMORY: return "FourierFT: out of memory";
    default: return "FourierFT: adapter_of_row: expected -1 or the index of an adapter";
  }
}

void compute_forward(void* kernel, void* context) {
  Inputs in;
  std::string problem = in.read(kernel, context, false);
  if (!problem.empty()) return fail(context, problem);
  const Status status;
  float* const y = start_output(context, in, in.base, status);
  if (!status.ok()) return tf.OpKernelContext_Failure(context, status);
  const fourierft_runner runner = pool().runner();
  problem = problem_of(fourierft_forward(in.tables, in.coefficients.data<float>(), in.adapters, in.scalings.data<float>(),
                                      FOURIERFT_FLOAT32, in.x.data<float>(), in.tokens, in.adapter_of_row(), y, &runner));
  if (!problem.empty()) fail(context, problem);
}

void compute_gradient(void* kernel, void* context) {
  Inputs in;
  std::string problem = in.read(kernel, context, true);
  if (!problem.empty()) return fail(context, problem);
  const Status status;
  float* const grad_x = start_output(context, in, in.x, status);
  if (!status.ok()) return tf.OpKernelContext_Failure(context, status);
  const Tensor grad_coefficients(allocate_like(context, 1, in.coefficients, status));
  if (!status.ok()) return tf.OpKernelContext_Failure(context, status);
  const fourierft_runner runner = pool().runner();
  problem = problem_of(fourierft_backward(in.tables, in.coefficients.data<float>(), in.adapters, in.scalings.data<float>(),
                                       FOURIERFT_FLOAT32, in.x.data<float>(), in.grad_y.data<float>(), in.tokens, in.adapter_of_row(),
                                       grad_coefficients.data<float>(), grad_x, &runner));
  if (!problem.empty()) fail(context, problem);
}

// The C code of TensorFlow calls this: an exception would end the process.
template <void (*compute)(void*, void*)>
void guarded(void* kernel, void* context) {
  try {
    compute(kernel, context);
  } catch (const std::exception&) {
    fail(context, "FourierFT: out of memory");
  }
}

std::string register_operator(const char* name, const char* const* inputs, const char* const* outputs, void (*compute)(void*, void*)) {
  void* builder = tf.NewOpDefinitionBuilder(name);
  for (; *inputs != nullptr; inputs++) tf.OpDefinitionBuilderAddInput(builder, *inputs);
  for (; *outputs != nullptr; outputs++) tf.OpDefinitionBuilderAddOutput(builder, *outputs);
  tf.OpDefinitionBuilderAddAttr(builder, "plan: int");
  tf.OpDefinitionBuilderAddAttr(builder, "in_place: bool");
  const Status status;
  tf.RegisterOpDefinition(builder, status);
  if (!status.ok()) return status.message();
  tf.RegisterKernelBuilder((std::string(name) + "Cpu").c_str(), tf.NewKernelBuilder(name, "CPU", create, compute, destroy), status);
  return status.ok() ? "" : status.message();
}

std::string register_all() {
  const char* forward_inputs[] = {"base: float", "x: float", "coefficients: float", "scalings: float", "adapter_of_row: int32", nullptr};
  const char* forward_outputs[] = {"y: float", nullptr};
  const char* gradient_inputs[] = {"base: float", "x: float", "grad_y: float", "coefficients: float",
                                   "scalings: float", "adapter_of_row: int32", nullptr};
  const char* gradient_outputs[] = {"grad_x: float", "grad_coefficients: float", nullptr};
  const std::string problem = register_operator("FourierFT", forward_inputs, forward_outputs, guarded<compute_forward>);
  return problem.empty() ? register_operator("FourierFTGrad", gradient_inputs, gradient_outputs, guarded<compute_gradient>) : problem;
}

}  // namespace

void register_tensorflow_operators(const std::string& path) {
  // Registers once, even if several JavaScript threads call this: TensorFlow has one registry for the process.
  static std::mutex mutex;
  static bool registered = false;
  std::lock_guard<std::mutex> lock(mutex);
  if (registered) return;
  const Library library = loaded_library(path.c_str());
  if (library == nullptr) throw Failure{path + " is not loaded in this process", "UNSUPPORTED", "load TensorFlow.js's binding first"};
  if (const char* missing = load_functions(library)) throw Failure{std::string("this TensorFlow has no function ") + missing, "UNSUPPORTED"};
  if (const std::string problem = register_all(); !problem.empty()) throw Failure{problem, "UNSUPPORTED"};
  registered = true;
}

}  // namespace fourierft
