// The C functions of fourierft-cuda.h: they copy plans into device memory, check arguments and queue kernels. If the caller passes no
// workspace, they use that of the stream.
#include "fourierft-cuda.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <tuple>
#include <utility>
#include <vector>

#include "../src/kernel.h"
#include "branch-kernels.cuh"
#include "reduce-kernel.cuh"

namespace fourierft::cuda {

// A kernel for a number of tokens in each block.
struct Kernel {
  int tokens;
  void (*forward)(Call);
  void (*backward)(Call);
};

template <int G, bool kIsFused>
constexpr Kernel kKernel{G, forward_kernel<G, kIsFused>, backward_kernel<G, kIsFused>};

}  // namespace fourierft::cuda

struct fourierft_cuda_plan {
  fourierft::cuda::DevicePlan plan;
  const fourierft::cuda::Kernel* one_token;   // or null: two tokens always
  const fourierft::cuda::Kernel* two_tokens;  // or null: one token always
  int threads, d1, d2, max_shared_bytes, multiprocessors;
  void* memory;
};

namespace {

using namespace fourierft::cuda;
using fourierft::Plan;
using fourierft::Side;
using fourierft::Terms;
using fourierft::Transform;

// The limit of a kernel's arguments on every architecture.
static_assert(sizeof(Call) <= 4096 && sizeof(Reduce) <= 4096);

// The number of tokens whose products are in the workspace at a time. It is constant, so the order of the gradient's sums is also constant.
constexpr int64_t kTokensPerChunk = 2048;

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

// Frequencies j and N - j of a half-length transform: their positions and slots (-1: not used). j = 0 has no second point, but frequency N = d/2
// has its second slot. The point j = N/2 is its own partner. Without a half length there is one frequency for each point.
struct Points {
  int a, b;
  float cos, sin;
  int slot_a, slot_b;
};

std::vector<Points> points_of(const Side& side) {
  const std::vector<int>& position = side.transform.position;
  const int n = side.transform.n;
  std::vector<int> slot_of(static_cast<size_t>(n) + 1, -1);
  for (size_t slot = 0; slot < side.frequencies.size(); slot++) slot_of[static_cast<size_t>(side.frequencies[slot])] = static_cast<int>(slot);
  std::vector<Points> points;
  for (int j = 0; j < n; j++) {
    if (!side.is_half_length) {
      points.push_back({position[j], -1, 0, 0, slot_of[j], -1});
    } else if (2 * j <= n) {
      const fourierft::Pack& pack = side.packs[position[j]];  // has e(j/d)
      points.push_back({position[j], j == 0 ? -1 : position[n - j], pack.cos, pack.sin, slot_of[j], 2 * j == n ? -1 : slot_of[n - j]});
    }
  }
  return points;
}

int length_of(const Transform& transform) { return transform.inner.empty() ? transform.n : transform.inner.front().n; }

void lay_out(const Side& side, bool is_fused, DeviceSide& result, Layout& layout) {
  result.d = side.d;
  result.is_half_length = side.is_half_length;
  result.n = side.transform.n;
  result.length = length_of(side.transform);
  result.used = static_cast<int>(side.frequencies.size());
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
  // A row whose transform has one stage only is too short to be worth another path.
  result.fuses_rows = is_fused && !bluestein && side.is_half_length && stages.size() > 1 && (stages.front().radix <= 8 || stages.front().radix == 16);
  std::vector<DeviceSplit> splits;
  for (const Points& points : points_of(side))
    if (points.slot_a >= 0 || points.slot_b >= 0)
      splits.push_back({points.a, points.b < 0 ? points.a : points.b, points.cos, points.sin, points.slot_a, points.slot_b});
  result.split_count = static_cast<int>(splits.size());
  layout.add(result.splits, splits);
}

// The slot of a term, or ~slot if the term is the conjugate of the slot.
int slot_with_sign(const fourierft::Term& term) { return term.sign < 0 ? ~(term.real / 2) : term.real / 2; }

// `side`: of the slots that the terms are summed into.
void lay_out(const Terms& terms, const Side& side, DeviceTerms& result, Layout& layout) {
  const auto count = [&](int slot) { return slot < 0 ? 0 : terms.start[slot + 1] - terms.start[slot]; };
  // Points without terms come last. Among points with equal work, neighbouring threads write to neighbouring positions.
  std::vector<Points> points = points_of(side);
  const auto order = [&](const Points& p) { return std::make_tuple(-count(p.slot_a), -count(p.slot_b), p.a); };
  std::sort(points.begin(), points.end(), [&](const Points& p, const Points& q) { return order(p) < order(q); });
  std::vector<DeviceTerm> device_terms;
  std::vector<DeviceJoin> joins;
  const auto append = [&](int slot) {
    for (int t = slot < 0 ? 0 : terms.start[slot]; slot >= 0 && t < terms.start[slot + 1]; t++)
      device_terms.push_back({slot_with_sign(terms.terms[t]), terms.terms[t].entry});
    return static_cast<int>(device_terms.size());
  };
  for (const Points& p : points) {
    const int first = static_cast<int>(device_terms.size()), middle = append(p.slot_a), end = append(p.slot_b);
    joins.push_back({p.a, p.b, p.cos, p.sin, first, middle, end});
    if (end > first) result.active_count++;
  }
  result.join_count = static_cast<int>(joins.size());
  layout.add(result.terms, device_terms);
  layout.add(result.joins, joins);
}

void lay_out(const Plan& plan, bool is_fused, DevicePlan& result, Layout& layout) {
  result = DevicePlan{};
  result.n = plan.n;
  lay_out(plan.in, is_fused, result.in, layout);
  lay_out(plan.out, is_fused, result.out, layout);
  lay_out(plan.by_row, plan.out, result.by_row, layout);
  lay_out(plan.by_column, plan.in, result.by_column, layout);
  std::vector<DeviceEntry> entries(static_cast<size_t>(plan.n));
  const Terms& terms = plan.by_row;
  for (int slot = 0; slot + 1 < static_cast<int>(terms.start.size()); slot++)
    for (int t = terms.start[slot]; t < terms.start[slot + 1]; t++) {
      const fourierft::Term& term = terms.terms[t];
      entries[term.entry] = {slot_with_sign(term), slot};
    }
  layout.add(result.entries, entries);
}

size_t shared_bytes(const SharedLayout& shared, const Kernel& kernel) {
  return (static_cast<size_t>(shared.token) * static_cast<size_t>(kernel.tokens) + static_cast<size_t>(shared.staged)) * sizeof(float2);
}

// Token kernel: about one thread for each butterfly of radix 4 to 8. Fused kernel: one for each butterfly of the first stage.
int thread_count(const DevicePlan& plan, bool is_fused) {
  if (!is_fused) {
    const int length = std::max(plan.in.length, plan.out.length);
    return length <= 256 ? 64 : length <= 1024 ? 128 : length <= 4096 ? 256 : kMaxThreads<false>;
  }
  const auto butterflies = [](const DeviceSide& side) { return side.stage_count == 0 ? 1 : side.length / side.stages[0].radix; };
  const int threads = std::max(butterflies(plan.in), butterflies(plan.out));
  return std::min((std::max(threads, 64) + 31) / 32 * 32, kMaxThreads<true>);
}

template <class Argument>
fourierft_cuda_status launch(void (*kernel)(Argument), const Argument& argument, dim3 grid, int threads, size_t shared, cudaStream_t stream) {
  void* arguments[] = {const_cast<Argument*>(&argument)};
  return checked(cudaLaunchKernel(kernel, grid, dim3(threads), arguments, shared, stream));
}

// Checks the arguments that a forward and a backward call have in common.
fourierft_cuda_status check_call(const fourierft_cuda_plan* plan, const void* branches, int32_t branch_count, int32_t adapters, fourierft_dtype dtype,
                                 int64_t tokens, const fourierft_cuda_rows* rows) {
  // A grid has at most 2^31 - 1 blocks in x and 65535 in y.
  if (plan == nullptr || branch_count < 0 || (branch_count > 0 && branches == nullptr) || adapters < 0 || adapters > 65535 || tokens < 0 ||
      tokens > INT32_MAX || dtype < FOURIERFT_FLOAT32 || dtype > FOURIERFT_BFLOAT16)
    return FOURIERFT_CUDA_INVALID_ARGUMENT;
  if (rows == nullptr || tokens == 0) return FOURIERFT_CUDA_OK;
  if (rows->adapters == nullptr || rows->count <= 0 || tokens % rows->count != 0) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  for (int64_t r = 0; rows->is_on_host && adapters > 0 && r < rows->count; r++)
    if (rows->adapters[r] < -1 || rows->adapters[r] >= adapters) return FOURIERFT_CUDA_INVALID_ROW;
  return FOURIERFT_CUDA_OK;
}

bool is_aligned(const void* pointer, fourierft_dtype dtype) {
  return reinterpret_cast<uintptr_t>(pointer) % (dtype == FOURIERFT_FLOAT32 ? 8 : 4) == 0;
}

// The part of a call that does not depend on its branches.
Call make_call(const fourierft_cuda_plan* plan, int32_t adapters, fourierft_dtype dtype, const void* x, int64_t tokens, const fourierft_cuda_rows* rows) {
  Call call{};
  call.plan = plan->plan;
  call.adapters.count = adapters;
  call.adapters.inverse_area = static_cast<float>(1 / (static_cast<double>(plan->d1) * plan->d2));
  call.adapters.tokens_per_row = rows == nullptr || tokens == 0 ? 1 : static_cast<unsigned>(tokens / rows->count);
  if (rows != nullptr && !rows->is_on_host) call.adapters.adapter_of_row = rows->adapters;
  call.dtype = dtype;
  call.is_paired = is_aligned(x, dtype);
  call.x = x;
  return call;
}

// Rows in the host's memory are passed as arguments, so nothing is copied, and a CUDA graph keeps them.
void set_inline_rows(Adapters& adapters, const fourierft_cuda_rows* rows, int64_t first_token, int64_t tokens) {
  if (rows == nullptr || !rows->is_on_host || tokens == 0) return;
  const int64_t first = first_token / adapters.tokens_per_row, end = (first_token + tokens - 1) / adapters.tokens_per_row + 1;
  adapters.first_inline_row = static_cast<int>(first);
  adapters.inline_count = static_cast<int>(end - first);
  for (int64_t r = first; r < end; r++) adapters.inline_rows[r - first] = static_cast<int32_t>(rows->adapters[r]);
}

// The number of tokens of a launch: all of them, or those of as many rows as it takes. It is even, so each launch begins with a whole block.
int64_t tokens_at_once(const Adapters& adapters, const fourierft_cuda_rows* rows, int64_t limit) {
  if (rows == nullptr || !rows->is_on_host || rows->count <= kMaxInlineRows) return limit;
  return std::min(limit, static_cast<int64_t>(kMaxInlineRows) * adapters.tokens_per_row);
}

// One token in each block as long as all of them run at once, because a block's time decides then.
const Kernel& kernel_for(const fourierft_cuda_plan* plan, int64_t tokens) {
  if (plan->two_tokens == nullptr) return *plan->one_token;
  const int64_t at_once = static_cast<int64_t>(plan->multiprocessors) * kMinBlocks<1, true>;
  return plan->one_token == nullptr || tokens > at_once ? *plan->two_tokens : *plan->one_token;
}

dim3 blocks_of(int64_t tokens, const Kernel& kernel) { return dim3(static_cast<unsigned>((tokens - 1) / kernel.tokens + 1)); }

// How many branches one backward launch computes.
int branches_at_once(const fourierft_cuda_plan* plan, const Kernel& kernel) {
  return shared_bytes(shared_layout(plan->plan, true, true), kernel) <= static_cast<size_t>(plan->max_shared_bytes) ? kMaxBranches : 1;
}

// The workspaces of all streams. Work on one stream runs in order, so all calls on a stream can share one workspace if each queues its work
// without interruption. The lock ensures that. ONNX Runtime's allocators cannot be used, because they hand freed memory to another stream before
// the queued work has run.
class Workspaces {
 public:
  template <class Queue>
  fourierft_cuda_status use(cudaStream_t stream, size_t bytes, const Queue& queue) {
    int device = 0;
    // A graph would keep the address of memory that a later call can free, and nothing can be allocated while it is captured.
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    fourierft_cuda_status status = checked(cudaStreamIsCapturing(stream, &capture));
    if (status == FOURIERFT_CUDA_OK && capture != cudaStreamCaptureStatusNone) return FOURIERFT_CUDA_INVALID_ARGUMENT;
    if (status == FOURIERFT_CUDA_OK) status = checked(cudaGetDevice(&device));
    if (status != FOURIERFT_CUDA_OK) return status;
    std::lock_guard<std::mutex> lock(mutex_);
    Workspace& workspace = workspaces_by_stream_[{device, stream}];
    if (workspace.bytes < bytes) {
      cudaFree(workspace.memory);  // waits for the queued work
      workspace = Workspace{};
      status = checked(cudaMalloc(&workspace.memory, bytes));
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

// Every plan's kernels may use all of a block's shared memory on this device: all plans share this attribute. This also loads the kernel, which cannot
// be done while a graph is captured.
template <class Argument>
fourierft_cuda_status prepare(void (*kernel)(Argument), int max_shared_bytes) {
  return checked(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, max_shared_bytes));
}

// Returns false for a name that is not a kernel's.
bool read_default_kernel(fourierft_cuda_kernel& kernel) {
  const char* name = std::getenv("FOURIERFT_CUDA_KERNEL");
  kernel = name != nullptr && std::strcmp(name, "tile") == 0 ? FOURIERFT_CUDA_KERNEL_TILE : FOURIERFT_CUDA_KERNEL_TOKEN;
  return name == nullptr || std::strcmp(name, "tile") == 0 || std::strcmp(name, "token") == 0;
}

fourierft_cuda_status upload_plan(const Plan& plan, fourierft_cuda_kernel kernel, fourierft_cuda_plan** device_plan) {
  int device = 0;
  auto result = std::make_unique<fourierft_cuda_plan>();
  fourierft_cuda_status status = checked(cudaGetDevice(&device));
  if (status == FOURIERFT_CUDA_OK)
    status = checked(cudaDeviceGetAttribute(&result->max_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  if (status == FOURIERFT_CUDA_OK) status = checked(cudaDeviceGetAttribute(&result->multiprocessors, cudaDevAttrMultiProcessorCount, device));
  if (status != FOURIERFT_CUDA_OK) return status;
  const bool is_fused = kernel != FOURIERFT_CUDA_KERNEL_TOKEN;
  if (kernel != FOURIERFT_CUDA_KERNEL_TILE_2) result->one_token = is_fused ? &kKernel<1, true> : &kKernel<1, false>;
  if (kernel == FOURIERFT_CUDA_KERNEL_TILE || kernel == FOURIERFT_CUDA_KERNEL_TILE_2) result->two_tokens = &kKernel<2, true>;
  Layout layout;
  lay_out(plan, is_fused, result->plan, layout);
  result->threads = thread_count(result->plan, is_fused);
  const SharedLayout shared = shared_layout(result->plan, true, false);
  for (const Kernel** candidate : {&result->one_token, &result->two_tokens}) {
    const Kernel* kernel_of_plan = *candidate;
    if (kernel_of_plan == nullptr) continue;
    if (shared_bytes(shared, *kernel_of_plan) > static_cast<size_t>(result->max_shared_bytes)) {
      *candidate = nullptr;
      continue;
    }
    status = prepare(kernel_of_plan->forward, result->max_shared_bytes);
    if (status == FOURIERFT_CUDA_OK) status = prepare(kernel_of_plan->backward, result->max_shared_bytes);
    if (status != FOURIERFT_CUDA_OK) return status;
  }
  if (result->one_token == nullptr && result->two_tokens == nullptr) return FOURIERFT_CUDA_SHARED_MEMORY;
  status = prepare(reduce_kernel, result->max_shared_bytes);
  if (status != FOURIERFT_CUDA_OK) return status;
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
                                                 fourierft_cuda_kernel kernel, fourierft_cuda_plan** device_plan) {
  if (device_plan == nullptr || kernel < FOURIERFT_CUDA_KERNEL_DEFAULT || kernel > FOURIERFT_CUDA_KERNEL_TILE_2) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  if (kernel == FOURIERFT_CUDA_KERNEL_DEFAULT && !read_default_kernel(kernel)) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  const fourierft_status status = fourierft_plan_check(d1, d2, n, rows, columns);
  if (status != FOURIERFT_OK) return static_cast<fourierft_cuda_status>(status);
  try {
    const auto radices = kernel == FOURIERFT_CUDA_KERNEL_TOKEN ? fourierft::Radices::cpu : fourierft::Radices::few_stages;
    const Plan plan(static_cast<int>(d1), static_cast<int>(d2), static_cast<int>(n), rows, columns, radices);
    return upload_plan(plan, kernel, device_plan);
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

fourierft_cuda_status fourierft_cuda_read(void* to, const void* from, size_t bytes, int device) {
  if (bytes == 0) return FOURIERFT_CUDA_OK;
  if (to == nullptr || from == nullptr) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  int current = 0;
  fourierft_cuda_status status = checked(cudaGetDevice(&current));
  if (status == FOURIERFT_CUDA_OK && current != device) status = checked(cudaSetDevice(device));
  if (status != FOURIERFT_CUDA_OK) return status;
  status = checked(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
  if (current == device) return status;
  const fourierft_cuda_status restored = checked(cudaSetDevice(current));
  return status == FOURIERFT_CUDA_OK ? restored : status;
}

fourierft_cuda_status fourierft_cuda_forward(const fourierft_cuda_plan* plan, const fourierft_cuda_branch* branches, int32_t branch_count,
                                             int32_t adapters, fourierft_dtype dtype, const void* x, int64_t tokens,
                                             const fourierft_cuda_rows* rows, fourierft_cuda_stream stream) {
  const fourierft_cuda_status status = check_call(plan, branches, branch_count, adapters, dtype, tokens, rows);
  if (status != FOURIERFT_CUDA_OK) return status;
  if (tokens == 0 || adapters == 0 || branch_count == 0) return FOURIERFT_CUDA_OK;
  if (x == nullptr) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  Call call = make_call(plan, adapters, dtype, x, tokens, rows);
  for (int b = 0; b < branch_count; b++) {
    if (branches[b].coefficients == nullptr || branches[b].y == nullptr) return FOURIERFT_CUDA_INVALID_ARGUMENT;
    call.is_paired = call.is_paired && is_aligned(branches[b].y, dtype);
  }
  const Kernel& kernel = kernel_for(plan, tokens);
  call.shared = shared_layout(plan->plan, false, false);
  const int64_t at_once = tokens_at_once(call.adapters, rows, tokens);
  for (int first_branch = 0; first_branch < branch_count; first_branch += kMaxBranches) {
    call.branch_count = std::min(branch_count - first_branch, kMaxBranches);
    for (int b = 0; b < call.branch_count; b++) {
      const fourierft_cuda_branch& branch = branches[first_branch + b];
      call.branches[b] = {branch.coefficients, branch.scalings, nullptr, branch.y, nullptr, nullptr};
    }
    for (call.first_token = 0; call.first_token < tokens; call.first_token += at_once) {
      call.tokens = std::min(at_once, tokens - call.first_token);
      set_inline_rows(call.adapters, rows, call.first_token, call.tokens);
      const fourierft_cuda_status queued = launch(kernel.forward, call, blocks_of(call.tokens, kernel), plan->threads, shared_bytes(call.shared, kernel), stream);
      if (queued != FOURIERFT_CUDA_OK) return queued;
    }
  }
  return FOURIERFT_CUDA_OK;
}

size_t fourierft_cuda_workspace(const fourierft_cuda_plan* plan, int64_t tokens, int32_t branch_count) {
  if (plan == nullptr || tokens <= 0 || branch_count <= 0) return 0;
  return static_cast<size_t>(std::min(branch_count, kMaxBranches)) * static_cast<size_t>(std::min(tokens, kTokensPerChunk)) *
         static_cast<size_t>(plan->plan.n) * sizeof(float);
}

fourierft_cuda_status fourierft_cuda_backward(const fourierft_cuda_plan* plan, const fourierft_cuda_gradient* branches, int32_t branch_count,
                                              int32_t adapters, fourierft_dtype dtype, const void* x, int64_t tokens,
                                              const fourierft_cuda_rows* rows, void* grad_x, void* workspace, fourierft_cuda_stream stream) {
  const fourierft_cuda_status status = check_call(plan, branches, branch_count, adapters, dtype, tokens, rows);
  if (status != FOURIERFT_CUDA_OK) return status;
  if (adapters == 0 || branch_count == 0) return FOURIERFT_CUDA_OK;
  if (tokens > 0 && x == nullptr) return FOURIERFT_CUDA_INVALID_ARGUMENT;
  if (workspace == nullptr && tokens > 0)
    return workspaces().use(stream, fourierft_cuda_workspace(plan, tokens, branch_count), [&](void* memory) {
      return fourierft_cuda_backward(plan, branches, branch_count, adapters, dtype, x, tokens, rows, grad_x, memory, stream);
    });
  Call call = make_call(plan, adapters, dtype, x, tokens, rows);
  call.grad_x = grad_x;
  call.is_paired = call.is_paired && is_aligned(grad_x, dtype);
  for (int b = 0; b < branch_count; b++) {
    const fourierft_cuda_gradient& branch = branches[b];
    if (branch.coefficients == nullptr || branch.grad_coefficients == nullptr || (tokens > 0 && branch.grad_y == nullptr))
      return FOURIERFT_CUDA_INVALID_ARGUMENT;
    call.is_paired = call.is_paired && is_aligned(branch.grad_y, dtype);
  }
  const Kernel& kernel = kernel_for(plan, tokens);
  const int n = plan->plan.n, reduce_threads = kEntriesPerBlock * kTokenLanes, branches_of_launch = branches_at_once(plan, kernel);
  const int64_t at_once = tokens_at_once(call.adapters, rows, kTokensPerChunk);
  for (int first_branch = 0; first_branch < branch_count; first_branch += branches_of_launch) {
    call.branch_count = std::min(branch_count - first_branch, branches_of_launch);
    call.shared = shared_layout(plan->plan, true, call.branch_count > 1);
    for (int b = 0; b < call.branch_count; b++) {
      const fourierft_cuda_gradient& branch = branches[first_branch + b];
      float* products = static_cast<float*>(workspace) + b * std::min(tokens, kTokensPerChunk) * n;
      call.branches[b] = {branch.coefficients, branch.scalings, branch.grad_y, nullptr, products, branch.grad_coefficients};
    }
    const dim3 reduce_grid(static_cast<unsigned>((n - 1) / kEntriesPerBlock + 1), static_cast<unsigned>(adapters),
                           static_cast<unsigned>(call.branch_count));
    // Runs once even without tokens: the gradient is then written as zeros.
    for (int64_t first = 0; first == 0 || first < tokens; first += at_once) {
      call.first_token = first;
      call.tokens = std::min(at_once, tokens - first);
      set_inline_rows(call.adapters, rows, first, call.tokens);
      Reduce reduce{call.adapters, n, static_cast<int>(call.tokens), kernel.tokens, first, {}};
      std::copy(std::begin(call.branches), std::end(call.branches), std::begin(reduce.branches));
      fourierft_cuda_status queued = FOURIERFT_CUDA_OK;
      if (call.tokens > 0)
        queued = launch(kernel.backward, call, blocks_of(call.tokens, kernel), plan->threads, shared_bytes(call.shared, kernel), stream);
      if (queued == FOURIERFT_CUDA_OK)
        queued = launch(reduce_kernel, reduce, reduce_grid, reduce_threads, reduce_threads * sizeof(float), stream);
      if (queued != FOURIERFT_CUDA_OK) return queued;
    }
  }
  return FOURIERFT_CUDA_OK;
}

}  // extern "C"
