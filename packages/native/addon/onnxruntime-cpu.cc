// The operators' kernel on the CPU, on the session's own threads.
#include <cstring>

#include "onnxruntime-operator.h"

namespace fourierft::onnxruntime {
namespace {

// Runs the parts of a call on the session's own threads.
fourierft_runner session_threads(Handle context) {
  return {[](void* context, int count, void (*body)(void*, int), void* argument) {
            struct Call {
              void (*body)(void*, int);
              void* argument;
            } call{body, argument};
            const auto run = [](void* call, size_t index) {
              static_cast<Call*>(call)->body(static_cast<Call*>(call)->argument, static_cast<int>(index));
            };
            const StatusHandle status =
                api.KernelContext_ParallelFor(context, run, static_cast<size_t>(count), static_cast<size_t>(count), &call);
            if (status == nullptr) return;
            // A session without threads fails before it calls the body: the calling thread does all the work.
            api.ReleaseStatus(status);
            for (int index = 0; index < count; index++) body(argument, index);
          },
          context};
}

// The adapter of each token, computed from the adapter of each row.
struct TokenAdapters {
  std::vector<int32_t> of_token;  // empty if all tokens use the same adapter
  int64_t single_adapter = -1;    // -1: none

  explicit TokenAdapters(const Inputs& in) {
    if (in.is_empty()) return;
    const int64_t count = in.rows.count();
    const int64_t* const indices = in.checked_rows();
    if (count == 1) {
      single_adapter = indices[0];
      return;
    }
    of_token.resize(static_cast<size_t>(in.tokens));
    const int64_t tokens_per_row = in.tokens / count;
    for (int64_t t = 0; t < in.tokens; t++) of_token[static_cast<size_t>(t)] = static_cast<int32_t>(indices[t / tokens_per_row]);
  }
  bool is_single() const { return of_token.empty(); }
  bool is_none() const { return is_single() && single_adapter < 0; }
  const int32_t* adapter_of_token() const { return is_single() ? nullptr : of_token.data(); }
  int32_t adapters(const Inputs& in) const { return is_single() ? 1 : static_cast<int32_t>(in.adapters); }
  int64_t first(const Inputs& in) const { return is_single() ? single_adapter * in.n : 0; }
};

OwnedPlan<fourierft_plan> make_plan(uint32_t d1, uint32_t d2, uint32_t n, const uint32_t* rows, const uint32_t* columns, std::string&) {
  fourierft_plan* plan = nullptr;
  fourierft_plan_create(d1, d2, n, rows, columns, &plan);
  return {plan, fourierft_plan_destroy};
}

void check(fourierft_status status) {
  if (status == FOURIERFT_OUT_OF_MEMORY) throw Failure{"FourierFT: out of memory"};
  if (status != FOURIERFT_OK) throw Failure{"FourierFT: the kernel rejected its arguments"};
}

class CpuKernel : public Kernel<fourierft_plan> {
 public:
  using Kernel::Kernel;

  void compute(Handle context) {
    if (!op.is_gradient && is_inactive(context)) {
      base_in_output(context, View::input(context, kBase));
      return;
    }
    const Inputs in(op, context);
    const TokenAdapters token_adapters(in);
    if (op.is_gradient) {
      backward(context, in, token_adapters);
    } else {
      forward(context, in, token_adapters);
    }
  }

 private:
  // Returns the output, with the numbers of the base.
  View base_in_output(Handle context, const View& base) const {
    const View y = View::output(context, 0, base.dims);
    if (y.data != base.data) std::memcpy(y.data, base.data, op.bytes_of(y.count()));
    return y;
  }

  void forward(Handle context, const Inputs& in, const TokenAdapters& token_adapters) {
    const View y = base_in_output(context, in.other);
    if (token_adapters.is_none()) return;
    const auto plan = plan_of(in, kCpu, make_plan);
    const std::vector<float> scalings(static_cast<size_t>(token_adapters.adapters(in)), 1.0f);
    const fourierft_runner runner = session_threads(context);
    check(fourierft_forward(plan->plan.get(), in.coefficients.as<float>() + token_adapters.first(in), token_adapters.adapters(in), scalings.data(),
                            op.dtype(), in.x.data, in.tokens, token_adapters.adapter_of_token(), y.data, &runner));
  }

  void backward(Handle context, const Inputs& in, const TokenAdapters& token_adapters) {
    const View grad_coefficients = View::output(context, 0, in.coefficients.dims);
    const View grad_x = View::output(context, 1, in.x.dims);
    std::memset(grad_coefficients.data, 0, static_cast<size_t>(grad_coefficients.count()) * sizeof(float));
    if (grad_x.data != in.grad_base.data) std::memcpy(grad_x.data, in.grad_base.data, op.bytes_of(grad_x.count()));
    if (token_adapters.is_none()) return;
    const auto plan = plan_of(in, kCpu, make_plan);
    const std::vector<float> scalings(static_cast<size_t>(token_adapters.adapters(in)), 1.0f);
    const fourierft_runner runner = session_threads(context);
    check(fourierft_backward(plan->plan.get(), in.coefficients.as<float>() + token_adapters.first(in), token_adapters.adapters(in), scalings.data(),
                             op.dtype(), in.x.data, in.other.data, in.tokens, token_adapters.adapter_of_token(),
                             grad_coefficients.as<float>() + token_adapters.first(in), grad_x.data, &runner));
  }
};

}  // namespace

void set_cpu_kernel(FourierFTOperator& op) { set_kernel<CpuKernel>(op); }

}  // namespace fourierft::onnxruntime
