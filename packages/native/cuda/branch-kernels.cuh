// The kernels of a branch. A block of threads computes the whole branch for G tokens in shared memory.
//
//   analyse      a row of one side -> its used frequencies, the slots
//   combine      the sparse step: each point of the other side's spectrum sums coefficients times slots
//   synthesise   the spectrum -> added to a row
//
// One thread computes each sum, so there are no atomics and the order of additions is fixed. Tokens share the numbers of tables, but no
// arithmetic. A fused kernel has larger radices, and its outermost stages read and write rows in global memory.
#pragma once

#include "call.cuh"
#include "transform.cuh"

namespace fourierft::cuda {

// The largest number of threads of a block, and the number of such blocks for which a multiprocessor has enough registers: 64 for each thread of the
// token kernel, 128 or 168 for each thread of a fused kernel.
template <bool kIsFused>
constexpr int kMaxThreads = kIsFused ? 128 : 512;
template <int G, bool kIsFused>
constexpr int kMinBlocks = !kIsFused ? 2 : G == 1 ? 4 : 3;

// On sm_100 the compiler needs more than 168 registers for the gradient of two tokens.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
template <int G, bool kIsFused>
constexpr int kMinBackwardBlocks = G == 1 ? kMinBlocks<G, kIsFused> : 2;
#else
template <int G, bool kIsFused>
constexpr int kMinBackwardBlocks = kMinBlocks<G, kIsFused>;
#endif

// With more entries, coefficients are not kept in shared memory.
constexpr int kMaxStagedEntries = 4096;

// The offsets of a token's arrays in shared memory, in complex numbers. The coefficients follow the arrays of all tokens.
struct SharedLayout {
  int in_slots, out_slots, sums;
  int token;   // the size of a token's arrays
  int staged;  // the size of the coefficients; 0: not kept
};

// A forward call has no `out_slots`. A backward call of several branches adds their sums in `sums`.
inline SharedLayout shared_layout(const DevicePlan& plan, bool is_backward, bool has_sums) {
  const auto larger = [](int a, int b) { return a > b ? a : b; };
  SharedLayout shared;
  shared.in_slots = padded(larger(larger(plan.in.n, plan.in.length), larger(plan.out.n, plan.out.length)));
  shared.out_slots = shared.in_slots + plan.in.used;
  shared.sums = shared.out_slots + (is_backward ? plan.out.used : 0);
  shared.token = shared.sums + (has_sums ? 2 * plan.by_column.active_count : 0);
  shared.staged = plan.n <= kMaxStagedEntries ? (plan.n + 1) / 2 : 0;
  return shared;
}

struct Call {
  DevicePlan plan;
  Adapters adapters;
  SharedLayout shared;
  fourierft_dtype dtype;
  int is_paired;  // whether all rows can be read two numbers at a time
  int64_t first_token, tokens;
  const void* x;
  void* grad_x;  // of a backward call; or null
  int branch_count;
  Branch branches[kMaxBranches];
};

// The tokens of a block.
template <int G>
struct Tile {
  int64_t first;
  int adapter[G];
  int computed;  // bit g: token g is computed
  bool has_one_adapter;

  __device__ explicit Tile(const Call& call)
      : first(call.first_token + static_cast<int64_t>(blockIdx.x) * G), computed(0), has_one_adapter(true) {
#pragma unroll
    for (int g = 0; g < G; g++) {
      const bool exists = static_cast<int64_t>(blockIdx.x) * G + g < call.tokens;
      adapter[g] = exists ? adapter_of(call.adapters, first + g) : kNoAdapter;
      if (adapter[g] >= kAllAdapters) computed |= 1 << g;
      has_one_adapter = has_one_adapter && adapter[g] == adapter[0];
    }
  }

  __device__ bool computes(int g) const { return computed >> g & 1; }

  // Rows whose adapter is invalid become NaN.
  __device__ void fill_invalid(const DeviceSide& side, fourierft_dtype dtype, void* rows) const {
#pragma unroll
    for (int g = 0; g < G; g++)
      if (adapter[g] == kInvalidAdapter)
        for (int e = threadIdx.x; e < side.d; e += blockDim.x) store(dtype, nanf(""), rows, (first + g) * side.d + e);
  }
};

// ---- Rows in global memory, read and written by the outermost stage -------------------------------------------------------------------

template <int G>
struct LoadRows {
  const Tile<G>& tile;
  fourierft_dtype dtype;
  const void* rows;
  int d;

  template <class Number, int R>
  __device__ __forceinline__ void read(int g, int first, int quotient, float2 (&z)[R]) const {
    const auto* row = reinterpret_cast<const Couple<Number>*>(static_cast<const Number*>(rows) + (tile.first + g) * d) + first;
    Couple<Number> numbers[R];
#pragma unroll
    for (int k = 0; k < R; k++) numbers[k] = row[k * quotient];
#pragma unroll
    for (int k = 0; k < R; k++) z[k] = make_float2(to_float(numbers[k].even), to_float(numbers[k].odd));
  }

  template <int R>
  __device__ __forceinline__ void operator()(int g, int first, int quotient, float2 (&z)[R]) const {
    if (!tile.computes(g)) {
#pragma unroll
      for (int k = 0; k < R; k++) z[k] = make_float2(0, 0);
    } else if (dtype == FOURIERFT_FLOAT32) {
      read<float>(g, first, quotient, z);
    } else if (dtype == FOURIERFT_FLOAT16) {
      read<__half>(g, first, quotient, z);
    } else {
      read<__nv_bfloat16>(g, first, quotient, z);
    }
  }
};

template <int G>
struct AddToRows {
  const Tile<G>& tile;
  fourierft_dtype dtype;
  void* rows;
  int d;

  template <class Number, int R>
  __device__ __forceinline__ void add(int g, int first, int quotient, const float2 (&z)[R]) const {
    auto* row = reinterpret_cast<Couple<Number>*>(static_cast<Number*>(rows) + (tile.first + g) * d) + first;
    Couple<Number> numbers[R];
#pragma unroll
    for (int k = 0; k < R; k++) numbers[k] = row[k * quotient];
#pragma unroll
    for (int k = 0; k < R; k++)
      row[k * quotient] = {from_float<Number>(to_float(numbers[k].even) + z[k].x), from_float<Number>(to_float(numbers[k].odd) + z[k].y)};
  }

  template <int R>
  __device__ __forceinline__ void operator()(int g, int first, int quotient, const float2 (&z)[R]) const {
    if (!tile.computes(g)) return;
    if (dtype == FOURIERFT_FLOAT32)
      add<float>(g, first, quotient, z);
    else if (dtype == FOURIERFT_FLOAT16)
      add<__half>(g, first, quotient, z);
    else
      add<__nv_bfloat16>(g, first, quotient, z);
  }
};

// ---- Analyse -----------------------------------------------------------------------------------------------------------------------

template <int G, bool kIsFused>
__device__ __forceinline__ void analyse(const DeviceSide& side, const Call& call, const Tile<G>& tile, const void* rows, const Rows& buffer,
                                        const Rows& slots) {
  if (kIsFused && side.fuses_rows && call.is_paired) {
    run_small_stage<G, kIsFused>(side.stages[0], side.length, true, LoadRows<G>{tile, call.dtype, rows, side.d}, StoreShared{buffer});
    __syncthreads();
    run_stages<G, kIsFused>(side, true, buffer, 1, side.stage_count);
  } else {
    for (int e = threadIdx.x; e < side.n; e += blockDim.x)
#pragma unroll
      for (int g = 0; g < G; g++) {
        const int64_t row = (tile.first + g) * side.d;
        buffer[g][padded(e)] = !tile.computes(g)      ? make_float2(0, 0)
                               : side.is_half_length ? make_float2(load(call.dtype, rows, row + 2 * e), load(call.dtype, rows, row + 2 * e + 1))
                                                     : make_float2(load(call.dtype, rows, row + e), 0);
      }
    __syncthreads();
    if (side.chirp != nullptr)
      run_bluestein<G, kIsFused>(side, buffer);
    else
      run_stages<G, kIsFused>(side, true, buffer, 0, side.stage_count);
  }
  // E = (Z[k] + conj Z[N-k])/2 and O = (Z[k] - conj Z[N-k])/2i are the transforms of even and odd elements; X[k] = E + e(k/d) O and
  // X[N-k] = conj(E - e(k/d) O).
  for (int p = threadIdx.x; p < side.split_count; p += blockDim.x) {
    const DeviceSplit split = side.splits[p];
#pragma unroll
    for (int g = 0; g < G; g++) {
      const float2 z = buffer[g][padded(split.a)];
      if (side.is_half_length) {
        const float2 w = buffer[g][padded(split.b)];
        const float2 even = make_float2((z.x + w.x) * 0.5f, (z.y - w.y) * 0.5f), odd = make_float2((z.y + w.y) * 0.5f, (w.x - z.x) * 0.5f);
        const float2 rotated = multiply(odd, make_float2(split.cos, split.sin));
        if (split.slot_a >= 0) slots[g][split.slot_a] = add(even, rotated);
        if (split.slot_b >= 0) slots[g][split.slot_b] = conjugate(subtract(even, rotated));
      } else {
        slots[g][split.slot_a] = z;
      }
    }
  }
  __syncthreads();
}

// ---- Combine -----------------------------------------------------------------------------------------------------------------------

// Copies alpha/(d1 d2) c_l to shared memory, if all tokens have one adapter. Without a barrier.
template <int G>
__device__ __forceinline__ void stage_coefficients(const Call& call, const Branch& branch, const Tile<G>& tile, float* staged) {
  if (staged == nullptr) return;
  for (int l = threadIdx.x; l < call.plan.n; l += blockDim.x) staged[l] = coefficient_of(call.adapters, branch, tile.adapter[0], call.plan.n, l);
}

// Adds terms first ... end-1 to the sums of all tokens. `staged`: the coefficients in shared memory, or null.
template <int G>
__device__ __forceinline__ void add_terms(const DeviceTerms& terms, int first, int end, const Call& call, const Branch& branch, const Tile<G>& tile,
                                          const float* staged, const Rows& from, float2 (&sums)[G]) {
  for (int t = first; t < end; t++) {
    const DeviceTerm term = terms.terms[t];
    float c = staged != nullptr ? staged[term.entry] : coefficient_of(call.adapters, branch, tile.adapter[0], call.plan.n, term.entry);
#pragma unroll
    for (int g = 0; g < G; g++) {
      if (g > 0 && !tile.has_one_adapter) c = coefficient_of(call.adapters, branch, tile.adapter[g], call.plan.n, term.entry);
      const float2 z = from[g][term.slot < 0 ? ~term.slot : term.slot];
      sums[g].x += c * z.x;
      sums[g].y += term.slot < 0 ? -c * z.y : c * z.y;
    }
  }
}

// The sparse step of one branch. It adds to `sums`, unless it `is_first`; if it `is_last` it writes the spectrum to the buffer, else the sums. Without a
// barrier: until the next one, each thread reads only sums that it has written itself.
//
// For even d the frequencies of the real part are half of each S[j] (and half its conjugate at d - j); 0 and d/2 have no conjugate partner and
// are real. The packed spectrum is z[j] = (S[j] + conj S[N-j]) + i e(j/d) (S[j] - conj S[N-j]), where e((N-j)/d) = -conj e(j/d).
template <int G>
__device__ __forceinline__ void combine(const DeviceSide& into, const DeviceTerms& terms, const Call& call, const Branch& branch, const Tile<G>& tile,
                                        const float* staged, const Rows& from, const Rows& sums, const Rows& buffer, bool is_first, bool is_last) {
  for (int p = threadIdx.x; p < (is_last ? terms.join_count : terms.active_count); p += blockDim.x) {
    const DeviceJoin join = terms.joins[p];
    float2 s[G], w[G];
#pragma unroll
    for (int g = 0; g < G; g++) {
      const bool has_sum = !is_first && p < terms.active_count;
      s[g] = has_sum ? sums[g][2 * p] : make_float2(0, 0);
      w[g] = has_sum ? sums[g][2 * p + 1] : make_float2(0, 0);
    }
    add_terms<G>(terms, join.first, join.middle, call, branch, tile, staged, from, s);
    add_terms<G>(terms, join.middle, join.end, call, branch, tile, staged, from, w);
#pragma unroll
    for (int g = 0; g < G; g++) {
      if (!is_last) {
        sums[g][2 * p] = s[g];
        sums[g][2 * p + 1] = w[g];
      } else if (!into.is_half_length) {
        buffer[g][padded(join.a)] = s[g];
      } else {
        // j = 0 has no second point, but N - j is frequency d/2.
        const bool is_real = join.b < 0;
        const float2 first = is_real ? make_float2(s[g].x, 0) : scale(s[g], 0.5f);
        const float2 second = is_real ? make_float2(w[g].x, 0) : join.b == join.a ? first : scale(w[g], 0.5f), e = make_float2(join.cos, join.sin);
        buffer[g][padded(join.a)] = add(add(first, conjugate(second)), times_i(multiply(subtract(first, conjugate(second)), e)));
        if (join.b >= 0 && join.b != join.a)
          buffer[g][padded(join.b)] = subtract(add(second, conjugate(first)), times_i(multiply(subtract(second, conjugate(first)), conjugate(e))));
      }
    }
  }
}

// ---- Synthesise --------------------------------------------------------------------------------------------------------------------

template <int G, bool kIsFused>
__device__ __forceinline__ void synthesise(const DeviceSide& side, const Call& call, const Tile<G>& tile, const Rows& buffer, void* rows) {
  const bool adds_in_stage = kIsFused && side.fuses_rows && call.is_paired;
  if (side.chirp != nullptr)
    run_bluestein<G, kIsFused>(side, buffer);
  else
    run_stages<G, kIsFused>(side, false, buffer, 0, side.stage_count - adds_in_stage);
  if (adds_in_stage) {
    run_small_stage<G, kIsFused>(side.stages[0], side.length, false, LoadShared{buffer}, AddToRows<G>{tile, call.dtype, rows, side.d});
    return;
  }
  for (int e = threadIdx.x; e < side.n; e += blockDim.x)
#pragma unroll
    for (int g = 0; g < G; g++) {
      if (!tile.computes(g)) continue;
      const int64_t row = (tile.first + g) * side.d;
      const float2 z = buffer[g][padded(e)];
      if (side.is_half_length) {
        add_to(call.dtype, z.x, rows, row + 2 * e);
        add_to(call.dtype, z.y, rows, row + 2 * e + 1);
      } else {
        add_to(call.dtype, z.x, rows, row + e);
      }
    }
}

// ---- Kernels -----------------------------------------------------------------------------------------------------------------------

// A block's arrays in shared memory.
template <int G>
struct Arrays {
  Rows buffer, in, out, sums;
  float* staged;  // null: not kept
  __device__ explicit Arrays(const SharedLayout& shared, const Tile<G>& tile)
      : buffer{shared_memory(), shared.token},
        in{buffer.first + shared.in_slots, shared.token},
        out{buffer.first + shared.out_slots, shared.token},
        sums{buffer.first + shared.sums, shared.token},
        staged(shared.staged > 0 && tile.has_one_adapter ? reinterpret_cast<float*>(buffer[G]) : nullptr) {}
};

// Block b computes tokens first_token + b G ... of all branches, which share the transform of x.
template <int G, bool kIsFused>
__global__ void __launch_bounds__(kMaxThreads<kIsFused>, kMinBlocks<G, kIsFused>) forward_kernel(const __grid_constant__ Call call) {
  const Tile<G> tile(call);
  const DevicePlan& plan = call.plan;
  for (int b = 0; b < call.branch_count; b++) tile.fill_invalid(plan.out, call.dtype, call.branches[b].y);
  if (tile.computed == 0) return;
  const Arrays<G> shared(call.shared, tile);
  stage_coefficients(call, call.branches[0], tile, shared.staged);
  analyse<G, kIsFused>(plan.in, call, tile, call.x, shared.buffer, shared.in);
  for (int b = 0; b < call.branch_count; b++) {
    if (b > 0) {
      stage_coefficients(call, call.branches[b], tile, shared.staged);
      __syncthreads();
    }
    combine<G>(plan.out, plan.by_row, call, call.branches[b], tile, shared.staged, shared.in, shared.sums, shared.buffer, true, true);
    __syncthreads();
    synthesise<G, kIsFused>(plan.out, call, tile, shared.buffer, call.branches[b].y);
  }
}

// Block b computes tokens first_token + b G ... and writes Re(G[j_l] X[k_l]) to the products: their sum to the row of the first token if all tokens
// have one adapter, else each token to its own row. The spectra of all branches are summed before one transform to grad_x.
template <int G, bool kIsFused>
__global__ void __launch_bounds__(kMaxThreads<kIsFused>, kMinBackwardBlocks<G, kIsFused>) backward_kernel(const __grid_constant__ Call call) {
  const Tile<G> tile(call);
  const DevicePlan& plan = call.plan;
  if (call.grad_x != nullptr) tile.fill_invalid(plan.in, call.dtype, call.grad_x);
  if (tile.computed == 0) return;
  const Arrays<G> shared(call.shared, tile);
  analyse<G, kIsFused>(plan.in, call, tile, call.x, shared.buffer, shared.in);
  for (int b = 0; b < call.branch_count; b++) {
    const Branch& branch = call.branches[b];
    if (b > 0) __syncthreads();
    if (call.grad_x != nullptr) stage_coefficients(call, branch, tile, shared.staged);
    analyse<G, kIsFused>(plan.out, call, tile, branch.grad_y, shared.buffer, shared.out);
    float* products = branch.products + static_cast<int64_t>(blockIdx.x) * G * plan.n;
    for (int l = threadIdx.x; l < plan.n; l += blockDim.x) {
      const DeviceEntry entry = plan.entries[l];
      float sum = 0;
#pragma unroll
      for (int g = 0; g < G; g++) {
        const float2 x = shared.in[g][entry.in < 0 ? ~entry.in : entry.in], y = shared.out[g][entry.out];
        const float product = entry.in < 0 ? y.x * x.x + y.y * x.y : y.x * x.x - y.y * x.y;
        sum += product;
        if (!tile.has_one_adapter && tile.computes(g)) products[static_cast<int64_t>(g) * plan.n + l] = product;
      }
      if (tile.has_one_adapter) products[l] = sum;
    }
    if (call.grad_x != nullptr)
      combine<G>(plan.in, plan.by_column, call, branch, tile, shared.staged, shared.out, shared.sums, shared.buffer, b == 0,
                 b == call.branch_count - 1);
  }
  if (call.grad_x == nullptr) return;
  __syncthreads();
  synthesise<G, kIsFused>(plan.in, call, tile, shared.buffer, call.grad_x);
}

}  // namespace fourierft::cuda
