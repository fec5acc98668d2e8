// The operators' kernel on a CUDA device. A call queues all its work on the session's stream and does not wait. The first call that needs a plan
// or a gradient's workspace makes it.
//
// `rows` and `entries` are in the CPU's memory. A call with a row that is out of range queues nothing.
#include "onnxruntime-operator.h"

namespace fourierft::onnxruntime {
namespace {

class CudaKernel : public Kernel<fourierft_cuda_plan> {
 public:
  using Kernel::Kernel;

  void compute(Handle context) {
    const Inputs in(op, context);
    if (in.adapters > kMaxAdapters)
      in.fail("coefficients: expected at most " + std::to_string(kMaxAdapters) + " adapters on a CUDA device; received " +
              std::to_string(in.adapters));
    const fourierft_cuda_rows rows{in.is_empty() ? nullptr : in.checked_rows(), in.rows.count(), 1};
    void* stream = nullptr;
    onnxruntime::check(api.KernelContext_GetGPUComputeStream(context, &stream));
    if (op.is_gradient) {
      backward(context, in, rows, static_cast<fourierft_cuda_stream>(stream));
    } else {
      forward(context, in, rows, static_cast<fourierft_cuda_stream>(stream));
    }
  }

 private:
  static constexpr int64_t kMaxAdapters = 65535;  // the limit of a grid's blocks in y

  const CudaLibrary& cuda() const { return *op.cuda; }

  void forward(Handle context, const Inputs& in, const fourierft_cuda_rows& rows, fourierft_cuda_stream stream) {
    const View y = View::output(context, 0, in.other.dims);
    if (y.data != in.other.data) check(cuda().copy(y.data, in.other.data, op.bytes_of(y.count()), stream));
    if (in.is_empty()) return;
    const auto plan = device_plan_of(in);
    const fourierft_cuda_branch branch{in.coefficients.as<float>(), nullptr, y.data};
    check(cuda().forward(plan->plan.get(), &branch, 1, static_cast<int32_t>(in.adapters), op.dtype(), in.x.data, in.tokens, &rows, stream));
  }

  void backward(Handle context, const Inputs& in, const fourierft_cuda_rows& rows, fourierft_cuda_stream stream) {
    const View grad_coefficients = View::output(context, 0, in.coefficients.dims);
    const View grad_x = View::output(context, 1, in.x.dims);
    if (grad_x.data != in.grad_base.data) check(cuda().copy(grad_x.data, in.grad_base.data, op.bytes_of(grad_x.count()), stream));
    if (in.is_empty()) {
      check(cuda().zero(grad_coefficients.data, static_cast<size_t>(grad_coefficients.count()) * sizeof(float), stream));
      return;
    }
    const auto plan = device_plan_of(in);
    const fourierft_cuda_gradient branch{in.coefficients.as<float>(), nullptr, in.other.data, grad_coefficients.as<float>()};
    check(cuda().backward(plan->plan.get(), &branch, 1, static_cast<int32_t>(in.adapters), op.dtype(), in.x.data, in.tokens, &rows, grad_x.data,
                          nullptr, stream));
  }

  // ONNX Runtime has already selected the session's device.
  std::shared_ptr<const EntriesPlan<fourierft_cuda_plan>> device_plan_of(const Inputs& in) {
    int device = 0;
    check(cuda().device(&device));
    return plan_of(in, device, [&](uint32_t d1, uint32_t d2, uint32_t n, const uint32_t* rows, const uint32_t* columns, std::string& problem) {
      fourierft_cuda_plan* plan = nullptr;
      const fourierft_cuda_status status = cuda().plan_create(d1, d2, n, rows, columns, FOURIERFT_CUDA_KERNEL_DEFAULT, &plan);
      if (status != FOURIERFT_CUDA_OK) problem = cuda().text_of(status);
      return OwnedPlan<fourierft_cuda_plan>(plan, cuda().plan_destroy);
    });
  }

  void check(fourierft_cuda_status status) const {
    if (status != FOURIERFT_CUDA_OK) throw Failure{std::string(op.node()) + ": " + cuda().text_of(status)};
  }
};

}  // namespace

void set_cuda_kernel(FourierFTOperator& op) { set_kernel<CudaKernel>(op); }

}  // namespace fourierft::onnxruntime
