// The common part of the operators' kernels on the CPU and on CUDA: their signature, the tensors of a call, and the checks of shapes.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda-library.h"
#include "entries-plan.h"
#include "fourierft/fourierft.h"
#include "onnxruntime-api.h"

namespace fourierft::onnxruntime {

struct FourierFTOperator : Operator {
  bool is_gradient;
  Type activations;
  const CudaLibrary* cuda;  // null: the CPU's kernel

  const char* node() const { return is_gradient ? "FourierFTGrad" : "FourierFT"; }
  fourierft_dtype dtype() const {
    return activations == kFloat16 ? FOURIERFT_FLOAT16 : activations == kBfloat16 ? FOURIERFT_BFLOAT16 : FOURIERFT_FLOAT32;
  }
  size_t bytes_of(int64_t count) const { return static_cast<size_t>(count) * (activations == kFloat ? 4 : 2); }
};

// Adds the functions that create, run and destroy the operator's kernels on the CPU or on CUDA.
void set_cpu_kernel(FourierFTOperator& op);
void set_cuda_kernel(FourierFTOperator& op);

constexpr size_t kBase = 1, kCoefficients = 2;  // indices of the inputs of FourierFT

// A view of an input or output tensor of a call.
struct View {
  void* data = nullptr;
  std::vector<int64_t> dims;

  View() = default;

  static View input(Handle context, size_t index);
  static View output(Handle context, size_t index, const std::vector<int64_t>& dims);

  int64_t count() const;
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }

 private:
  explicit View(Handle value);
};

// Whether a call has no coefficients. Most layers of a session with many adapters have none, so this reads nothing else.
bool is_inactive(Handle context);

// The inputs of a call. The constructor checks that x and `other` (base or grad_y) have the same number of tokens, grad_base the shape of x, and
// coefficients and entries the same n.
struct Inputs {
  const FourierFTOperator& op;
  View x, other, grad_base, coefficients, rows, entries;  // grad_base: only of a gradient
  int64_t d1 = 0, d2 = 0, n = 0, tokens = 0, adapters = 0;

  Inputs(const FourierFTOperator& op, Handle context);
  // Whether there is nothing to add. In that case `rows` and `entries` are not read.
  bool is_empty() const { return adapters == 0 || n == 0 || tokens == 0; }
  // Returns the index of the adapter for each equal part of the tokens. Throws if one of them is not -1 or an adapter.
  const int64_t* checked_rows() const;
  [[noreturn]] void fail(const std::string& message) const;
};

// A node's kernel. Entries are usually constants, so it keeps the plan of the last call.
template <class Plan>
class Kernel {
 public:
  explicit Kernel(const FourierFTOperator& op) : op(op) {}
  const FourierFTOperator& op;

  template <class Make>
  std::shared_ptr<const EntriesPlan<Plan>> plan_of(const Inputs& in, int device, const Make& make) {
    const auto* entries = in.entries.as<int64_t>();
    std::lock_guard<std::mutex> lock(mutex_);
    if (last_ == nullptr || !last_->matches(device, in.d1, in.d2, in.n, entries)) {
      std::string problem;
      last_ = shared_plan<Plan>(device, in.d1, in.d2, in.n, entries, problem, make);
      if (last_ == nullptr) in.fail(problem);
    }
    return last_;
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<const EntriesPlan<Plan>> last_;
};

constexpr int kInvalidArgument = 2;  // OrtErrorCode

// Runs the body of a callback of ONNX Runtime, which expects a status instead of an exception.
template <class Body>
StatusHandle checked(const Body& body) {
  try {
    body();
    return nullptr;
  } catch (const Failure& failure) {
    return api.CreateStatus(kInvalidArgument, failure.message().c_str());
  } catch (const std::exception& error) {
    return api.CreateStatus(kInvalidArgument, error.what());
  }
}

// Sets the class of the operator's kernels. The class has a method `compute(context)`.
template <class KernelClass>
void set_kernel(FourierFTOperator& op) {
  op.create_checked = [](const Operator* op, const void*, Handle, Handle* kernel) -> StatusHandle {
    return checked([&] { *kernel = new KernelClass(*static_cast<const FourierFTOperator*>(op)); });
  };
  op.compute_checked = [](Handle kernel, Handle context) -> StatusHandle {
    return checked([&] { static_cast<KernelClass*>(kernel)->compute(context); });
  };
  op.destroy = [](Handle kernel) { delete static_cast<KernelClass*>(kernel); };
}

}  // namespace fourierft::onnxruntime
