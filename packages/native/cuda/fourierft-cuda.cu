// The C functions of fourierft-cuda.h: they copy plans into device memory, check arguments and queue kernels. If the caller passes no
// workspace, they use that of the stream.
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

// The number of tokens whose products are in the workspace at a time. It is constant, so the order of the gradient's sums is also constant.
constexpr int64_t kTokensPerChunk = 1024;

thread_local cudaError_t problem = cudaSuccess;

fourierft_cuda_status checked(cudaError_t error) {
  if (error == cudaSuccess) return FOURIERFT_CUDA_OK;
  if (error == cudaErrorMemoryAllocation) return FOURIERFT_CUDA_OUT_OF_MEMORY;
  problem = error;
  return FOURIERFT_CUDA_FAILED;
}

// Arrays that will be copied to one block of device memory. `add` appends an array and sets its pointer to an offset. When the block is allocated,
// `relocate` replaces the offsets by addresses.
class Layout {
 public:
  template <class T>
  void add(const T*& pointer, const std::vector<T>& values) {
    bytes_.resize((bytes_.size() + 15) / 16 * 16);
    pointer = reinterpret_cast<const T*>(static_cast<uintptr_t>(bytes_.size()) + 1);  // an offset of 0 is not a null pointer
    relocations_.push_back([](void* address, const char* memory) {
      const T*& pointer = *static_cast<const T**>(address);
      pointer = reinterpret_cast<const T*>(memory + (reinterpret_cast<uintptr_t>(pointer) - 1));
    });
    pointers_.push_back(&pointer);
    const char* first = reinterpret_cast<const char*>(values.data());
    bytes_.insert(bytes_.end(), first, first + values.size() * sizeof(T));
  }
  const std::vector<char>& bytes() const { return bytes_; }
  void relocate(const void* memory) {
    for (size_t i = 0; i < relocations_.size(); i++) relocations_[i](pointers_[i], static_cast<const char*>(memory));
  }

 private:
  std::vector<char> bytes_;
  std::vector<void*> pointers_;
  std::vector<void (*)(void*, const char*)> relocations_;
};

std::vector<float2> complex_numbers(const std::vector<float>& values) {
  std::vector<float2> result;
  for (size_t i = 0; i < values.size(); i += 2) result.push_back(make_float2(values[i], values[i + 1]));
  return result;
}

int length_of(const Transform& transform) { return transform.inner.empty() ? transform.n : transform.inner.front().n; }

// The fields of a side that `shared_layout` reads.
DeviceSide sizes_of(const Side& side) {
  DeviceSide result{};
  result.d = side.d;
  result.is_half_length = side.is_half_length;
  result.n = side.transform.n;
  result.length = length_of(side.transform);
  result.used = static_cast<int>(side.frequencies.size());
  return result;
}

void lay_out(const Side& side, DeviceSide& result, Layout& layout) {
  result = sizes_of(side);
  const Transform& transform = side.transform;
  const bool bluestein = !transform.inner.empty();
  const auto& stages = bluestein ? transform.inner.front().stages : transform.stages;
  for (const fourierft::Stage& stage : stages) {
    DeviceStage& device_stage = result.stages[result.stage_count++];
    device_stage.radix = stage.radix;
    device_stage.length = stage.length;
    // Neighbouring threads read neighbouring elements, so the twiddles of one output are side by side.
    const std::vector<float2> twiddles = complex_numbers(stage.twiddles);
    std::vector<float2> transposed;
    const int quotient = stage.length / stage.radix, others = stage.radix - 1;
    for (int k = 0; k < others; k++)
      for (int i = 0; i < quotient; i++) transposed.push_back(twiddles[static_cast<size_t>(i) * others + k]);
    layout.add(device_stage.twiddles, transposed);
    layout.add(device_stage.roots, complex_numbers(stage.roots));
  }
  if (bluestein) {
    layout.add(result.chirp, complex_numbers(transform.chirp));
    layout.add(result.chirp_spectrum, complex_numbers(transform.chirp_spectrum));
  }
  result.zero = result.nyquist = -1;
  for (int slot = 0; slot < result.used; slot++) {
    if (side.frequencies[slot] == 0) result.zero = slot;
    if (2 * side.frequencies[slot] == side.d) result.nyquist = slot;
  }
  std::vector<Pair> splits, packs(static_cast<size_t>(result.n), Pair{result.used, result.used, 0, 0});
  for (const fourierft::Split& split : side.splits) splits.push_back({split.a, split.b, split.cos, split.sin});
  for (const fourierft::Pack& pack : side.packs) packs[pack.position] = {pack.a, pack.b, pack.cos, pack.sin};
  layout.add(result.splits, splits);
  layout.add(result.packs, packs);
}

// The slot of a term, or ~slot if the term is the conjugate of the slot.
int slot_with_sign(const fourierft::Term& term) { return term.sign < 0 ? ~(term.real / 2) : term.real / 2; }

void lay_out(const Terms& terms, DeviceTerms& result, Layout& layout) {
  std::vector<DeviceTerm> device_terms;
  for (const fourierft::Term& term : terms.terms) device_terms.push_back({slot_with_sign(term), term.entry});
  layout.add(result.terms, device_terms);
  layout.add(result.start, terms.start);
}

void lay_out(const Plan& plan, DevicePlan& result, Layout& layout) {
  result = DevicePlan{};
  result.n = plan.n;
  lay_out(plan.in, result.in, layout);
  lay_out(plan.out, result.out, layout);
  lay_out(plan.by_row, result.by_row, layout);
  lay_out(plan.by_column, result.by_column, layout);
  std::vector<DeviceEntry> entries(static_cast<size_t>(plan.n));
  const Terms& terms = plan.by_row;
  for (int slot = 0; slot + 1 < static_cast<int>(terms.start.size()); slot++)
    for (int t = terms.start[slot]; t < terms.start[slot + 1]; t++) {
      const fourierft::Term& term = terms.terms[t];
      entries[term.entry] = {slot_with_sign(term), slot};
    }
  layout.add(result.entries, entries);
}

size_t shared_bytes(const SharedLayout& shared) { return static_cast<size_t>(shared.total) * sizeof(float2); }

// About one thread for each butterfly of radix 4 to 8.
int thread_count(const DevicePlan& plan) {
  const int length = std::max(plan.in.length, plan.out.length);
  return length <= 256 ? 64 : length <= 1024 ? 128 : length <= 4096 ? 256 : kMaxThreads;
}

template <class Call>
fourierft_cuda_status launch(void (*kernel)(Call), Call call, dim3 grid, int threads, size_t shared, cudaStream_t stream) {
  void* arguments[] = {&call};
  return checked(cudaLaunchKernel(kernel, grid, dim3(threads), arguments, shared, stream));
}

bool valid_arguments(const fourierft_cuda_plan* plan, const float* coefficients, int32_t adapters, fourierft_dtype dtype, int64_t tokens,
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
// without interruption. The lock ensures that. ONNX Runtime's allocators cannot be used, because they hand freed memory to another stream before
// the queued work has run.
class Workspaces {
 public:
  template <class Queue>
  fourierft_cuda_status use(cudaStream_t stream, size_t bytes, const Queue& queue) {
    int device = 0;
    const fourierft_cuda_status status = checked(cudaGetDevice(&device));
    if (status != FOURIERFT_CUDA_OK) return status;
    std::lock_guard<std::mutex> lock(mutex_);
    Workspace& workspace = workspaces_by_stream_[{device, stream}];
    if (workspace.bytes < bytes) {
      cudaFree(workspace.memory);  // waits for the queued work
      workspace = Workspace{};
      const fourierft_cuda_status status = checked(cudaMalloc(&workspace.memory, bytes));
      if (status != FOURIERFT_CUDA_OK) return status;
      workspace.bytes = bytes;
    }
    return queue(workspace.memory);
  }
  void plan_created() {
    std::lock_guard<std::mutex> lock(mutex_);
    plans_++;
  }
  void plan_destroyed() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (--plans_ > 0) return;
    for (const auto& [stream, workspace] : workspaces_by_stream_) cudaFree(workspace.memory);
    workspaces_by_stream_.clear();
  }

 private:
  struct Workspace {
    void* memory = nullptr;
    size_t bytes = 0;
  };
  std::mutex mutex_;
  std::map<std::pair<int, cudaStream_t>, Workspace> workspaces_by_stream_;
  int64_t plans_ = 0;
};

Workspaces& workspaces() {
  static Workspaces* const shared = new Workspaces;
  return *shared;
}

fourierft_cuda_status upload_plan(const Plan& plan, fourierft_cuda_plan** device_plan) {
  int device = 0, max_shared_bytes = 0;
  fourierft_cuda_status status = checked(cudaGetDevice(&device));
  if (status == FOURIERFT_CUDA_OK) status = checked(cudaDeviceGetAttribute(&max_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  if (status != FOURIERFT_CUDA_OK) return status;
  const SharedLayout shared = shared_layout(sizes_of(plan.in), sizes_of(plan.out));
  if (shared_bytes(shared) > static_cast<size_t>(max_shared_bytes)) return FOURIERFT_CUDA_SHARED_MEMORY;
  // All plans share the kernel's attribute, so it is set to the limit of the device, not to the size that this plan needs.
  status = checked(cudaFuncSetAttribute(forward_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, max_shared_bytes));
  if (status == FOURIERFT_CUDA_OK)
    status = checked(cudaFuncSetAttribute(backward_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, max_shared_bytes));
  if (status != FOURIERFT_CUDA_OK) return status;
  auto result = std::make_unique<fourierft_cuda_plan>();
  Layout layout;
  lay_out(plan, result->plan, layout);
  result->shared = shared;
  result->threads = thread_count(result->plan);
  result->d1 = plan.d1;
  result->d2 = plan.d2;
  status = checked(cudaMalloc(&result->memory, layout.bytes().size()));
  if (status != FOURIERFT_CUDA_OK) return status;
  status = checked(cudaMemcpy(result->memory, layout.bytes().data(), layout.bytes().size(), cudaMemcpyHostToDevice));
  if (status != FOURIERFT_CUDA_OK) {
    cudaFree(result->memory);
    return status;
  }
  layout.relocate(result->memory);
  *device_plan = result.release();
  workspaces().plan_created();
  return FOURIERFT_CUDA_OK;
}

}  // namespace

extern "C" {

int fourierft_cuda_abi_version(void) { return FOURIERFT_CUDA_ABI_VERSION; }

const char* fourierft_cuda_memory_kind(void) {
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
    return upload_plan(plan->plan, device_plan);
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
  if (!valid_arguments(plan, coefficients, adapters, dtype, tokens, adapter_of_row, rows)) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  if (tokens == 0 || adapters == 0) return FOURIERFT_CUDA_OK;
  if (x == nullptr || y == nullptr) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  const Forward call{plan->plan, adapters_of(plan, coefficients, adapters, scalings, tokens, adapter_of_row, rows), plan->shared, dtype, x, y};
  return launch(forward_kernel, call, dim3(static_cast<unsigned>(tokens)), plan->threads, shared_bytes(plan->shared), stream);
}

size_t fourierft_cuda_workspace(const fourierft_cuda_plan* plan, int64_t tokens) {
  if (plan == nullptr || tokens <= 0) return 0;
  return static_cast<size_t>(std::min(tokens, kTokensPerChunk)) * static_cast<size_t>(plan->plan.n) * sizeof(float);
}

fourierft_cuda_status fourierft_cuda_backward(const fourierft_cuda_plan* plan, const float* coefficients, int32_t adapters,
                                              const float* scalings, fourierft_dtype dtype, const void* x, const void* grad_y,
                                              int64_t tokens, const int64_t* adapter_of_row, int64_t rows, float* grad_coefficients,
                                              void* grad_x, void* workspace, fourierft_cuda_stream stream) {
  if (!valid_arguments(plan, coefficients, adapters, dtype, tokens, adapter_of_row, rows)) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  if (adapters == 0) return FOURIERFT_CUDA_OK;
  if (grad_coefficients == nullptr || (tokens > 0 && (x == nullptr || grad_y == nullptr))) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  if (workspace == nullptr && tokens > 0)
    return workspaces().use(stream, fourierft_cuda_workspace(plan, tokens), [&](void* memory) {
      return fourierft_cuda_backward(plan, coefficients, adapters, scalings, dtype, x, grad_y, tokens, adapter_of_row, rows,
                                     grad_coefficients, grad_x, memory, stream);
    });
  Backward call{plan->plan, adapters_of(plan, coefficients, adapters, scalings, tokens, adapter_of_row, rows), plan->shared, dtype, 0, x,
                grad_y, static_cast<float*>(workspace), grad_x};
  Reduce reduce{call.adapters, plan->plan.n, 0, 0, call.products, grad_coefficients};
  const dim3 reduce_grid(static_cast<unsigned>((reduce.n - 1) / kEntriesPerBlock + 1), static_cast<unsigned>(adapters));
  const int reduce_threads = kEntriesPerBlock * kTokenLanes;
  // Runs once even without tokens: the gradient is then written as zeros.
  for (int64_t first = 0; first == 0 || first < tokens; first += kTokensPerChunk) {
    const int count = static_cast<int>(std::min(kTokensPerChunk, tokens - first));
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
