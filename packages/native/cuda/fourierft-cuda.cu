// The C functions of fourierft-cuda.h lay a plan out in device memory, check arguments and queue kernels. Without a workspace from the caller
// they use that of the stream.
#include "fourierft-cuda.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "../src/kernel.h"
#include "kernels.cuh"

struct fourierft_cuda_plan {
  fourierft::cuda::DevicePlan plan;
  fourierft::cuda::SharedLayout shared;
  int threads, d1, d2;
  void* memory;
};

namespace {

using namespace fourierft::cuda;
using fourierft::Plan;
using fourierft::Side;
using fourierft::Terms;
using fourierft::Transform;

// The number of tokens whose products are in the workspace at a time. It is fixed, so the order of the gradient's sums is fixed, too.
constexpr int64_t kTokensOfChunk = 1024;

thread_local cudaError_t problem = cudaSuccess;

fourierft_cuda_status checked(cudaError_t error) {
  if (error == cudaSuccess) return FOURIERFT_CUDA_OK;
  if (error == cudaErrorMemoryAllocation) return FOURIERFT_CUDA_OUT_OF_MEMORY;
  problem = error;
  return FOURIERFT_CUDA_FAILED;
}

// Arrays one after another in memory that is allocated later: `add` gathers them and sets pointers to offsets, and `settle` turns the offsets
// into addresses.
class Layout {
 public:
  template <class T>
  void add(const T*& pointer, const std::vector<T>& values) {
    bytes_.resize((bytes_.size() + 15) / 16 * 16);
    pointer = reinterpret_cast<const T*>(static_cast<uintptr_t>(bytes_.size()) + 1);  // null stays null
    settlers_.push_back([](void* address, const char* memory) {
      const T*& pointer = *static_cast<const T**>(address);
      pointer = reinterpret_cast<const T*>(memory + (reinterpret_cast<uintptr_t>(pointer) - 1));
    });
    pointers_.push_back(&pointer);
    const char* first = reinterpret_cast<const char*>(values.data());
    bytes_.insert(bytes_.end(), first, first + values.size() * sizeof(T));
  }
  const std::vector<char>& bytes() const { return bytes_; }
  void settle(const void* memory) {
    for (size_t i = 0; i < settlers_.size(); i++) settlers_[i](pointers_[i], static_cast<const char*>(memory));
  }

 private:
  std::vector<char> bytes_;
  std::vector<void*> pointers_;
  std::vector<void (*)(void*, const char*)> settlers_;
};

std::vector<float2> complex_numbers(const std::vector<float>& values) {
  std::vector<float2> result;
  for (size_t i = 0; i < values.size(); i += 2) result.push_back(make_float2(values[i], values[i + 1]));
  return result;
}

int length_of(const Transform& transform) { return transform.inner.empty() ? transform.n : transform.inner.front().n; }

// The part of a side that `shared_layout` reads.
DeviceSide sizes_of(const Side& side) {
  DeviceSide result{};
  result.d = side.d;
  result.halved = side.halved;
  result.n = side.transform.n;
  result.length = length_of(side.transform);
  result.used = static_cast<int>(side.frequencies.size());
  return result;
}

void lay_out(const Side& side, DeviceSide& to, Layout& layout) {
  to = sizes_of(side);
  const Transform& transform = side.transform;
  const bool bluestein = !transform.inner.empty();
  const auto& stages = bluestein ? transform.inner.front().stages : transform.stages;
  for (const fourierft::Stage& stage : stages) {
    DeviceStage& each = to.stages[to.stage_count++];
    each.radix = stage.radix;
    each.length = stage.length;
    // Threads take neighbouring elements, so these are side by side.
    const std::vector<float2> twiddles = complex_numbers(stage.twiddles);
    std::vector<float2> turned;
    const int quotient = stage.length / stage.radix, others = stage.radix - 1;
    for (int k = 0; k < others; k++)
      for (int i = 0; i < quotient; i++) turned.push_back(twiddles[static_cast<size_t>(i) * others + k]);
    layout.add(each.twiddles, turned);
    layout.add(each.roots, complex_numbers(stage.roots));
  }
  if (bluestein) {
    layout.add(to.chirp, complex_numbers(transform.chirp));
    layout.add(to.chirp_spectrum, complex_numbers(transform.chirp_spectrum));
  }
  to.zero = to.nyquist = -1;
  for (int slot = 0; slot < to.used; slot++) {
    if (side.frequencies[slot] == 0) to.zero = slot;
    if (2 * side.frequencies[slot] == side.d) to.nyquist = slot;
  }
  std::vector<Pair> splits, packs(static_cast<size_t>(to.n), Pair{to.used, to.used, 0, 0});
  for (const fourierft::Split& split : side.splits) splits.push_back({split.a, split.b, split.cos, split.sin});
  for (const fourierft::Pack& pack : side.packs) packs[pack.at] = {pack.a, pack.b, pack.cos, pack.sin};
  layout.add(to.splits, splits);
  layout.add(to.packs, packs);
}

void lay_out(const Terms& terms, DeviceTerms& to, Layout& layout) {
  std::vector<DeviceTerm> result;
  for (const fourierft::Term& term : terms.terms) result.push_back({term.sign < 0 ? ~(term.real / 2) : term.real / 2, term.entry});
  layout.add(to.terms, result);
  layout.add(to.start, terms.start);
}

void lay_out(const Plan& plan, DevicePlan& to, Layout& layout) {
  to = DevicePlan{};
  to.n = plan.n;
  lay_out(plan.in, to.in, layout);
  lay_out(plan.out, to.out, layout);
  lay_out(plan.by_row, to.by_row, layout);
  lay_out(plan.by_column, to.by_column, layout);
  std::vector<DeviceEntry> entries(static_cast<size_t>(plan.n));
  const Terms& terms = plan.by_row;
  for (int slot = 0; slot + 1 < static_cast<int>(terms.start.size()); slot++)
    for (int t = terms.start[slot]; t < terms.start[slot + 1]; t++) {
      const fourierft::Term& term = terms.terms[t];
      entries[term.entry] = {term.sign < 0 ? ~(term.real / 2) : term.real / 2, slot};
    }
  layout.add(to.entries, entries);
}

size_t shared_bytes(const SharedLayout& shared) { return static_cast<size_t>(shared.total) * sizeof(float2); }

// About one thread for each butterfly of radix 4 to 8.
int threads_of(const DevicePlan& plan) {
  const int length = std::max(plan.in.length, plan.out.length);
  return length <= 256 ? 64 : length <= 1024 ? 128 : length <= 4096 ? 256 : kMostThreads;
}

template <class Call>
fourierft_cuda_status launch(void (*kernel)(Call), Call call, dim3 grid, int threads, size_t shared, cudaStream_t stream) {
  void* arguments[] = {&call};
  return checked(cudaLaunchKernel(kernel, grid, dim3(threads), arguments, shared, stream));
}

bool are_valid(const fourierft_cuda_plan* plan, const float* coefficients, int32_t adapters, fourierft_dtype dtype, int64_t tokens,
            const int64_t* adapter_of_row, int64_t rows) {
  // A grid has at most 2^31 - 1 blocks in x and 65535 in y.
  if (plan == nullptr || adapters < 0 || adapters > 65535 || tokens < 0 || tokens > INT32_MAX) return false;
  if (dtype < FOURIERFT_FLOAT32 || dtype > FOURIERFT_BFLOAT16) return false;
  if (adapters > 0 && coefficients == nullptr) return false;
  return adapter_of_row == nullptr || tokens == 0 || (rows > 0 && tokens % rows == 0);
}

Adapters adapters_of(const fourierft_cuda_plan* plan, const float* coefficients, int32_t adapters, const float* scalings, int64_t tokens,
                     const int64_t* adapter_of_row, int64_t rows) {
  const double area = static_cast<double>(plan->d1) * plan->d2;
  return {coefficients, scalings, static_cast<float>(1 / area), adapters, adapter_of_row,
          adapter_of_row == nullptr || tokens == 0 ? 1 : tokens / rows};
}

// The workspaces of all streams. Work on one stream runs in order, so all calls on a stream can share one workspace if each queues its work
// without interruption: hence the lock. ONNX Runtime's allocators cannot be used, because they hand freed memory to another stream before
// the queued work has run.
class Workspaces {
 public:
  template <class Queue>
  fourierft_cuda_status use(cudaStream_t stream, size_t bytes, const Queue& queue) {
    int device = 0;
    const fourierft_cuda_status status = checked(cudaGetDevice(&device));
    if (status != FOURIERFT_CUDA_OK) return status;
    std::lock_guard<std::mutex> lock(mutex_);
    Workspace& own = of_stream_[{device, stream}];
    if (own.bytes < bytes) {
      cudaFree(own.memory);  // waits for the queued work
      own = Workspace{};
      const fourierft_cuda_status status = checked(cudaMalloc(&own.memory, bytes));
      if (status != FOURIERFT_CUDA_OK) return status;
      own.bytes = bytes;
    }
    return queue(own.memory);
  }
  void plan_created() {
    std::lock_guard<std::mutex> lock(mutex_);
    plans_++;
  }
  void plan_destroyed() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (--plans_ > 0) return;
    for (const auto& each : of_stream_) cudaFree(each.second.memory);
    of_stream_.clear();
  }

 private:
  struct Workspace {
    void* memory = nullptr;
    size_t bytes = 0;
  };
  std::mutex mutex_;
  std::map<std::pair<int, cudaStream_t>, Workspace> of_stream_;
  int64_t plans_ = 0;
};

Workspaces& workspaces() {
  static Workspaces* const shared = new Workspaces;
  return *shared;
}

fourierft_cuda_status on_device(const Plan& plan, fourierft_cuda_plan** device_plan) {
  int device = 0, most_shared = 0;
  fourierft_cuda_status status = checked(cudaGetDevice(&device));
  if (status == FOURIERFT_CUDA_OK) status = checked(cudaDeviceGetAttribute(&most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  if (status != FOURIERFT_CUDA_OK) return status;
  const SharedLayout shared = shared_layout(sizes_of(plan.in), sizes_of(plan.out));
  if (shared_bytes(shared) > static_cast<size_t>(most_shared)) return FOURIERFT_CUDA_SHARED_MEMORY;
  // The limit of the device, not of this plan, because all plans share the kernel's attribute.
  status = checked(cudaFuncSetAttribute(forward_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most_shared));
  if (status == FOURIERFT_CUDA_OK)
    status = checked(cudaFuncSetAttribute(backward_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most_shared));
  if (status != FOURIERFT_CUDA_OK) return status;
  auto result = std::make_unique<fourierft_cuda_plan>();
  Layout layout;
  lay_out(plan, result->plan, layout);
  result->shared = shared;
  result->threads = threads_of(result->plan);
  result->d1 = plan.d1;
  result->d2 = plan.d2;
  status = checked(cudaMalloc(&result->memory, layout.bytes().size()));
  if (status != FOURIERFT_CUDA_OK) return status;
  status = checked(cudaMemcpy(result->memory, layout.bytes().data(), layout.bytes().size(), cudaMemcpyHostToDevice));
  if (status != FOURIERFT_CUDA_OK) {
    cudaFree(result->memory);
    return status;
  }
  layout.settle(result->memory);
  *device_plan = result.release();
  workspaces().plan_created();
  return FOURIERFT_CUDA_OK;
}

}  // namespace

extern "C" {

int fourierft_cuda_interface(void) { return FOURIERFT_CUDA_INTERFACE; }

const char* fourierft_cuda_memory(void) {
#ifdef HOST_SHIM
  return "cpu";
#else
  return "cuda";
#endif
}

const char* fourierft_cuda_problem(void) { return problem == cudaSuccess ? "" : cudaGetErrorString(problem); }

fourierft_cuda_status fourierft_cuda_device_count(int* count) {
  return count == nullptr ? FOURIERFT_CUDA_INVALID_ARGUMENT : checked(cudaGetDeviceCount(count));
}

fourierft_cuda_status fourierft_cuda_device(int* device) {
  return device == nullptr ? FOURIERFT_CUDA_INVALID_ARGUMENT : checked(cudaGetDevice(device));
}

fourierft_cuda_status fourierft_cuda_plan_create(uint32_t d1, uint32_t d2, uint32_t n, const uint32_t* rows, const uint32_t* columns,
                                                 fourierft_cuda_plan** device_plan) {
  if (device_plan == nullptr) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  fourierft_plan* created = nullptr;
  const fourierft_status status = fourierft_plan_create(d1, d2, n, rows, columns, &created);
  if (status != FOURIERFT_OK) return static_cast<fourierft_cuda_status>(status);
  const std::unique_ptr<fourierft_plan, void (*)(fourierft_plan*)> plan(created, fourierft_plan_destroy);
  try {
    return on_device(plan->plan, device_plan);
  } catch (const std::bad_alloc&) {
    return FOURIERFT_CUDA_OUT_OF_MEMORY;
  }
}

void fourierft_cuda_plan_destroy(fourierft_cuda_plan* plan) {
  if (plan == nullptr) return;
  cudaFree(plan->memory);
  delete plan;
  workspaces().plan_destroyed();
}

fourierft_cuda_status fourierft_cuda_copy(void* to, const void* from, size_t bytes, fourierft_cuda_stream stream) {
  if (bytes == 0) return FOURIERFT_CUDA_OK;
  if (to == nullptr || from == nullptr) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  return checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
}

fourierft_cuda_status fourierft_cuda_zero(void* to, size_t bytes, fourierft_cuda_stream stream) {
  if (bytes == 0) return FOURIERFT_CUDA_OK;
  return to == nullptr ? FOURIERFT_CUDA_INVALID_ARGUMENT : checked(cudaMemsetAsync(to, 0, bytes, stream));
}

fourierft_cuda_status fourierft_cuda_forward(const fourierft_cuda_plan* plan, const float* coefficients, int32_t adapters,
                                             const float* scalings, fourierft_dtype dtype, const void* x, int64_t tokens,
                                             const int64_t* adapter_of_row, int64_t rows, void* y, fourierft_cuda_stream stream) {
  if (!are_valid(plan, coefficients, adapters, dtype, tokens, adapter_of_row, rows)) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  if (tokens == 0 || adapters == 0) return FOURIERFT_CUDA_OK;
  if (x == nullptr || y == nullptr) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  const Forward call{plan->plan, adapters_of(plan, coefficients, adapters, scalings, tokens, adapter_of_row, rows), plan->shared, dtype, x, y};
  return launch(forward_kernel, call, dim3(static_cast<unsigned>(tokens)), plan->threads, shared_bytes(plan->shared), stream);
}

size_t fourierft_cuda_workspace(const fourierft_cuda_plan* plan, int64_t tokens) {
  if (plan == nullptr || tokens <= 0) return 0;
  return static_cast<size_t>(std::min(tokens, kTokensOfChunk)) * static_cast<size_t>(plan->plan.n) * sizeof(float);
}

fourierft_cuda_status fourierft_cuda_backward(const fourierft_cuda_plan* plan, const float* coefficients, int32_t adapters,
                                              const float* scalings, fourierft_dtype dtype, const void* x, const void* grad_y,
                                              int64_t tokens, const int64_t* adapter_of_row, int64_t rows, float* grad_coefficients,
                                              void* grad_x, void* workspace, fourierft_cuda_stream stream) {
  if (!are_valid(plan, coefficients, adapters, dtype, tokens, adapter_of_row, rows)) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  if (adapters == 0) return FOURIERFT_CUDA_OK;
  if (grad_coefficients == nullptr || (tokens > 0 && (x == nullptr || grad_y == nullptr))) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  if (workspace == nullptr && tokens > 0)
    return workspaces().use(stream, fourierft_cuda_workspace(plan, tokens), [&](void* own) {
      return fourierft_cuda_backward(plan, coefficients, adapters, scalings, dtype, x, grad_y, tokens, adapter_of_row, rows,
                                     grad_coefficients, grad_x, own, stream);
    });
  Backward call{plan->plan, adapters_of(plan, coefficients, adapters, scalings, tokens, adapter_of_row, rows), plan->shared, dtype, 0, x,
                grad_y, static_cast<float*>(workspace), grad_x};
  Reduce reduce{call.adapters, plan->plan.n, 0, 0, call.products, grad_coefficients};
  const dim3 reduce_grid(static_cast<unsigned>((reduce.n - 1) / kEntriesOfBlock + 1), static_cast<unsigned>(adapters));
  const int reduce_threads = kEntriesOfBlock * kTokenLanes;
  // Without tokens there is one empty sum, so that the gradient is written.
  for (int64_t first = 0; first == 0 || first < tokens; first += kTokensOfChunk) {
    const int count = static_cast<int>(std::min(kTokensOfChunk, tokens - first));
    call.first_token = reduce.first_token = first;
    reduce.tokens = count;
    fourierft_cuda_status status = FOURIERFT_CUDA_OK;
    if (count > 0) status = launch(backward_kernel, call, dim3(static_cast<unsigned>(count)), plan->threads, shared_bytes(plan->shared), stream);
    if (status == FOURIERFT_CUDA_OK)
      status = launch(reduce_kernel, reduce, reduce_grid, reduce_threads, reduce_threads * sizeof(float), stream);
    if (status != FOURIERFT_CUDA_OK) return status;
  }
  return FOURIERFT_CUDA_OK;
}

}  // extern "C"
