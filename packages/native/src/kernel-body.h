// The kernel: real transforms with tokens side by side in SIMD lanes (structure of arrays). Every operation of a transform is the same for
// all lanes; numbers are shuffled only when rows are loaded and stored. A tile is `V` tokens. A side is one dimension of the layer; a slot holds
// one frequency that its entries use (plan.h).
//
//   analyse      rows of one side -> its slots
//   combine      the sparse step: each slot of one side sums coefficients times slots of the other
//   synthesise   slots of one side -> rows
//
// Functions whose names end in `_one` compute a single token: lane r holds the numbers p of its row with p mod 8 = r.
//
// forward = analyse(in), combine(by_row), synthesise(out); the gradient for x is the same with the sides exchanged. Row p of dW is the gradient
// for x if grad_y is the unit vector p, whose transform is known. One file for each instruction set includes this file and defines FOURIERFT_ISA
// (a namespace) and FOURIERFT_LANES.

#include <cstring>
#include <type_traits>

#include "kernel.h"
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace fourierft {
namespace FOURIERFT_ISA {
namespace {

#define FOURIERFT_INLINE inline __attribute__((always_inline))

template <int V>
struct Lanes {
  typedef float type __attribute__((vector_size(4 * V)));
};
template <>
struct Lanes<1> {
  typedef float type;
};
template <int V>
using lanes = typename Lanes<V>::type;

typedef lanes<4> f4;
typedef lanes<8> f8;

// ---- numbers of other widths -------------------------------------------------------------------------------------------------------

FOURIERFT_INLINE float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
FOURIERFT_INLINE uint32_t float_to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

struct Float32 {
  typedef float stored;
  static FOURIERFT_INLINE float load(float value) { return value; }
  static FOURIERFT_INLINE float store(float value) { return value; }
};

struct BFloat16 {
  typedef uint16_t stored;
  static FOURIERFT_INLINE float load(uint16_t half) { return bits_to_float(static_cast<uint32_t>(half) << 16); }
  static FOURIERFT_INLINE uint16_t store(float value) {  // to nearest, ties to even
    const uint32_t bits = float_to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
  }
};

struct Float16 {
  typedef uint16_t stored;
  static FOURIERFT_INLINE float load(uint16_t half) {
#if defined(__F16C__)
    return _cvtsh_ss(half);
#else
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16, rest = half & 0x7fffu;
    if (rest >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13 | ((rest & 0x3ffu) != 0 ? 0x400000u : 0u));
    if (rest < 0x400u) {  // subnormal: rest * 2^-24
      const float magnitude = static_cast<float>(rest) * 5.9604644775390625e-8f;
      return bits_to_float(float_to_bits(magnitude) | sign);
    }
    return bits_to_float(sign | ((rest << 13) + (112u << 23)));
#endif
  }
  static FOURIERFT_INLINE uint16_t store(float value) {  // to nearest, ties to even
#if defined(__F16C__)
    return _cvtss_sh(value, 0);
#else
    const uint32_t bits = float_to_bits(value), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (rest >> 13 & 0x3ffu));
    if (rest >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to 65536 or more
    if (rest < 0x38800000u) {  // subnormal or zero: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits
      return static_cast<uint16_t>(sign | (float_to_bits(bits_to_float(rest) + 0.5f) - 0x3f000000u));
    }
    return static_cast<uint16_t>(sign | ((rest - (112u << 23) + 0xfffu + (rest >> 13 & 1u)) >> 13));
#endif
  }
};

// ---- rows in memory <-> lanes ------------------------------------------------------------------------------------------------------

FOURIERFT_INLINE void transpose(f8* r) {
  f8 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int h = 0; h < 8; h += 4) {
    u[h] = __builtin_shufflevector(t[h], t[h + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    u[h + 1] = __builtin_shufflevector(t[h], t[h + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    u[h + 2] = __builtin_shufflevector(t[h + 1], t[h + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    u[h + 3] = __builtin_shufflevector(t[h + 1], t[h + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = __builtin_shufflevector(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// A vector of numbers side by side in memory.
template <class v, class Number>
FOURIERFT_INLINE v load(const typename Number::stored* from) {
  v result;
  if constexpr (std::is_same_v<Number, Float32>) {
    std::memcpy(&result, from, sizeof result);
  } else {
    constexpr int count = sizeof(v) / sizeof(float);
    float values[count];
    for (int e = 0; e < count; e++) values[e] = Number::load(from[e]);
    std::memcpy(&result, values, sizeof result);
  }
  return result;
}

template <class Number>
FOURIERFT_INLINE f8 load8(const typename Number::stored* from) {
  return load<f8, Number>(from);
}

template <class Number, bool Add>
FOURIERFT_INLINE void store8(f8 from, typename Number::stored* to) {
  if constexpr (Add) from = from + load8<Number>(to);
  if constexpr (std::is_same_v<Number, Float32>) {
    std::memcpy(to, &from, sizeof from);
  } else {
    float values[8];
    std::memcpy(values, &from, sizeof values);
    for (int e = 0; e < 8; e++) to[e] = Number::store(values[e]);
  }
}

FOURIERFT_INLINE f8 join(f4 low, f4 high) { return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7); }

FOURIERFT_INLINE lanes<16> join(f8 low, f8 high) {
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

// Transposes the 4 x 4 numbers in each 128-bit quarter of four vectors.
template <class v>
FOURIERFT_INLINE void transpose_quarters(const v* t, v* r) {
  v u[4];
  for (int i = 0; i < 4; i += 2) {
    if constexpr (sizeof(v) == 64) {
      u[i] = __builtin_shufflevector(t[i], t[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
      u[i + 1] = __builtin_shufflevector(t[i], t[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    } else {
      u[i] = __builtin_shufflevector(t[i], t[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
      u[i + 1] = __builtin_shufflevector(t[i], t[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
  }
  for (int i = 0; i < 2; i++) {
    if constexpr (sizeof(v) == 64) {
      r[2 * i] = __builtin_shufflevector(u[i], u[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      r[2 * i + 1] = __builtin_shufflevector(u[i], u[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    } else {
      r[2 * i] = __builtin_shufflevector(u[i], u[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      r[2 * i + 1] = __builtin_shufflevector(u[i], u[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
}

// Transposes four numbers of each of V rows, quad(row), into four vectors of all rows.
template <int V, class Quad>
FOURIERFT_INLINE void load_quads(const Quad& quad, lanes<V>* r) {
  lanes<V> t[4];
  for (int row = 0; row < 4; row++) {
    const f8 low = join(quad(row), quad(row + 4));
    if constexpr (V == 16)
      t[row] = join(low, join(quad(row + 8), quad(row + 12)));
    else
      t[row] = low;
  }
  transpose_quarters(t, r);
}

// to[p * stride * V + lane] = row `lane`, element p; lanes from `count` on are zero.
template <int V, class Number>
FOURIERFT_INLINE void load_rows(const typename Number::stored* rows, int d, int count, float* to, int stride) {
  int p = 0;
  if constexpr (V >= 8) {
    f8 r[4];
    for (; p + 16 <= d; p += 16) {  // cache lines of only eight rows at a time: those of more could share one set of the cache
      for (int group = 0; group < V; group += 8) {
        for (int q = p; q < p + 16; q += 4) {
          const auto from = [&](int lane) { return load<f4, Number>(rows + static_cast<size_t>(group + lane) * d + q); };
          if (count == V)
            load_quads<8>(from, r);
          else
            load_quads<8>([&](int lane) { return group + lane < count ? from(lane) : f4{}; }, r);
          for (int e = 0; e < 4; e++) std::memcpy(to + static_cast<size_t>(q + e) * stride * V + group, &r[e], sizeof r[e]);
        }
      }
    }
  }
  for (; p < d; p++)
    for (int lane = 0; lane < V; lane++)
      to[static_cast<size_t>(p) * stride * V + lane] = lane < count ? Number::load(rows[static_cast<size_t>(lane) * d + p]) : 0.f;
}

// Adds (or writes) lanes to rows of `d` numbers; lanes whose row is null are left out.
template <int V, class Number, bool Add>
void store_rows(const float* from, int stride, int d, typename Number::stored* const* rows) {
  bool all_present = true;
  for (int lane = 0; lane < V; lane++) all_present = all_present && rows[lane] != nullptr;
  int p = 0;
  if constexpr (V >= 8) {
    for (int group = 0; group < V; group += 8) {
      for (p = 0; p + 8 <= d; p += 8) {
        f8 r[8];
        for (int e = 0; e < 8; e++) std::memcpy(&r[e], from + static_cast<size_t>(p + e) * stride * V + group, sizeof(f8));
        transpose(r);
        for (int t = 0; t < 8; t++)
          if (all_present || rows[group + t] != nullptr) store8<Number, Add>(r[t], rows[group + t] + p);
      }
    }
  }
  for (; p < d; p++)
    for (int lane = 0; lane < V; lane++) {
      if (rows[lane] == nullptr) continue;
      const float value = from[static_cast<size_t>(p) * stride * V + lane];
      rows[lane][p] = Number::store(Add ? Number::load(rows[lane][p]) + value : value);
    }
}

// Writes without using the caches if the instructions allow it: for data that is larger than the caches and is not read again soon. `to` is
// aligned to 32 bytes.
FOURIERFT_INLINE void stream8(f8 from, float* to) {
#if defined(__AVX__)
  _mm256_stream_ps(to, from);
#else
  std::memcpy(to, &from, sizeof from);
#endif
}

// Orders the streamed data before the later writes of this thread.
FOURIERFT_INLINE void end_stream() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

// Streams the first `count` lanes to rows of d numbers, `step` apart, in whole cache lines. d and `step` are multiples of a line, so all
// rows start at the same offset in a line. Backwards: number p of a row is number d - p of the lane, modulo d.
template <int V, bool Backwards>
void stream_rows(const float* from, int stride, int d, int count, float* rows, ptrdiff_t step) {
  const auto number = [&](int p) { return from + static_cast<size_t>(Backwards && p > 0 ? d - p : p) * stride * V; };
  const int head = (16 - static_cast<int>(reinterpret_cast<uintptr_t>(rows) / sizeof(float) % 16)) % 16;
  int p = head;
  for (; p + 16 <= d; p += 16) {
    for (int group = 0; group < V && group < count; group += 8) {
      f8 r[16];
      for (int e = 0; e < 16; e++) r[e] = load8<Float32>(number(p + e) + group);
      transpose(r);
      transpose(r + 8);
      for (int t = 0; t < 8 && group + t < count; t++) {
        float* to = rows + (group + t) * step + p;
        stream8(r[t], to);
        stream8(r[t + 8], to + 8);
      }
    }
  }
  for (int lane = 0; lane < count; lane++) {
    for (int q = 0; q < head; q++) rows[lane * step + q] = number(q)[lane];
    for (int q = p; q < d; q++) rows[lane * step + q] = number(q)[lane];
  }
}

// The rows of a tile's tokens, null for lanes without a token or without an adapter.
template <int V, class stored>
struct Rows {
  stored* of[V];
  Rows(stored* first, int d, int count, const int32_t* adapter_of_row) {
    for (int lane = 0; lane < V; lane++)
      of[lane] = lane < count && (adapter_of_row == nullptr || adapter_of_row[lane] >= 0) ? first + static_cast<size_t>(lane) * d : nullptr;
  }
};

// ---- butterflies: re[k] + i im[k] becomes sum over q of (re[q] + i im[q]) e(qk/R) --------------------------------------------------

template <class v>
FOURIERFT_INLINE void dft3(v* re, v* im) {
  const float h = 0.86602540378443865f;
  const v t_re = re[1] + re[2], t_im = im[1] + im[2], s_re = (re[1] - re[2]) * h, s_im = (im[1] - im[2]) * h;
  const v c_re = re[0] - t_re * 0.5f, c_im = im[0] - t_im * 0.5f;
  re[0] = re[0] + t_re;
  im[0] = im[0] + t_im;
  re[1] = c_re - s_im;
  im[1] = c_im + s_re;
  re[2] = c_re + s_im;
  im[2] = c_im - s_re;
}

template <class v>
FOURIERFT_INLINE void dft4(v* re, v* im) {
  const v a_re = re[0] + re[2], a_im = im[0] + im[2], b_re = re[0] - re[2], b_im = im[0] - im[2];
  const v c_re = re[1] + re[3], c_im = im[1] + im[3], d_re = re[1] - re[3], d_im = im[1] - im[3];
  re[0] = a_re + c_re;
  im[0] = a_im + c_im;
  re[1] = b_re - d_im;
  im[1] = b_im + d_re;
  re[2] = a_re - c_re;
  im[2] = a_im - c_im;
  re[3] = b_re + d_im;
  im[3] = b_im - d_re;
}

template <class v>
FOURIERFT_INLINE void dft8(v* re, v* im) {
  const float h = 0.70710678118654752f;
  v e_re[4] = {re[0], re[2], re[4], re[6]}, e_im[4] = {im[0], im[2], im[4], im[6]};
  v o_re[4] = {re[1], re[3], re[5], re[7]}, o_im[4] = {im[1], im[3], im[5], im[7]};
  dft4(e_re, e_im);
  dft4(o_re, o_im);
  v a = (o_re[1] - o_im[1]) * h, b = (o_re[1] + o_im[1]) * h;
  o_re[1] = a;
  o_im[1] = b;
  a = -o_im[2];
  o_im[2] = o_re[2];
  o_re[2] = a;
  a = -(o_re[3] + o_im[3]) * h;
  b = (o_re[3] - o_im[3]) * h;
  o_re[3] = a;
  o_im[3] = b;
  for (int k = 0; k < 4; k++) {
    re[k] = e_re[k] + o_re[k];
    im[k] = e_im[k] + o_im[k];
    re[k + 4] = e_re[k] - o_re[k];
    im[k + 4] = e_im[k] - o_im[k];
  }
}

// R = 0: the radix is `radix`, any odd number.
template <int R, class v>
FOURIERFT_INLINE void dft_odd(v* re, v* im, int radix, const float* roots) {
  const int n = R > 0 ? R : radix, h = (n - 1) / 2;
  constexpr int capacity = R > 0 ? R : 64;
  v p_re[capacity], p_im[capacity], q_re[capacity], q_im[capacity], s_re = re[0], s_im = im[0];
  for (int k = 1; k <= h; k++) {
    p_re[k] = re[k] + re[n - k];
    p_im[k] = im[k] + im[n - k];
    q_re[k] = re[k] - re[n - k];
    q_im[k] = im[k] - im[n - k];
    s_re = s_re + p_re[k];
    s_im = s_im + p_im[k];
  }
  for (int j = 1; j <= h; j++) {
    v a_re = re[0], a_im = im[0];
    v b_re = q_re[1] * roots[2 * j + 1], b_im = q_im[1] * roots[2 * j + 1];
    a_re = a_re + p_re[1] * roots[2 * j];
    a_im = a_im + p_im[1] * roots[2 * j];
    for (int k = 2, at = 2 * j % n; k <= h; k++, at = at + j >= n ? at + j - n : at + j) {
      const float c = roots[2 * at], s = roots[2 * at + 1];
      a_re = a_re + p_re[k] * c;
      a_im = a_im + p_im[k] * c;
      b_re = b_re + q_re[k] * s;
      b_im = b_im + q_im[k] * s;
    }
    re[j] = a_re - b_im;  // not read again: the sums above read only p, q and element 0
    im[j] = a_im + b_re;
    re[n - j] = a_re + b_im;
    im[n - j] = a_im - b_re;
  }
  re[0] = s_re;
  im[0] = s_im;
}

template <int R, class v>
FOURIERFT_INLINE void dft(v* re, v* im, const Stage& stage) {
  if constexpr (R == 2) {
    const v a = re[0] - re[1], b = im[0] - im[1];
    re[0] = re[0] + re[1];
    im[0] = im[0] + im[1];
    re[1] = a;
    im[1] = b;
  } else if constexpr (R == 3) {
    dft3(re, im);
  } else if constexpr (R == 4) {
    dft4(re, im);
  } else if constexpr (R == 8) {
    dft8(re, im);
  } else if constexpr (R == 6) {
    const float h = 0.86602540378443865f;
    v e_re[3] = {re[0], re[2], re[4]}, e_im[3] = {im[0], im[2], im[4]}, o_re[3] = {re[1], re[3], re[5]}, o_im[3] = {im[1], im[3], im[5]};
    dft3(e_re, e_im);
    dft3(o_re, o_im);
    v a = o_re[1] * 0.5f - o_im[1] * h, b = o_re[1] * h + o_im[1] * 0.5f;
    o_re[1] = a;
    o_im[1] = b;
    a = -o_re[2] * 0.5f - o_im[2] * h;
    b = o_re[2] * h - o_im[2] * 0.5f;
    o_re[2] = a;
    o_im[2] = b;
    for (int k = 0; k < 3; k++) {
      re[k] = e_re[k] + o_re[k];
      im[k] = e_im[k] + o_im[k];
      re[k + 3] = e_re[k] - o_re[k];
      im[k + 3] = e_im[k] - o_im[k];
    }
  } else {
    dft_odd<R>(re, im, stage.radix, stage.roots.data());
  }
}

// One stage over a whole transform of `n` numbers (interleaved: b[2e], b[2e+1]). Forward (natural order in, `position` order
// out): butterfly, then twiddle. Otherwise (`position` order in, natural order out) the transposed stage: twiddle, then butterfly.
template <int R, int V, bool Forward>
void run_stage(const Stage& stage, int n, lanes<V>* b) {
  typedef lanes<V> v;
  const int radix = R > 0 ? R : stage.radix, quotient = stage.length / radix;
  for (int base = 0; base < n; base += stage.length) {
    const float* w = stage.twiddles.data();
    for (int i = 0; i < quotient; i++, w += 2 * (radix - 1)) {
      v re[R > 0 ? R : 64], im[R > 0 ? R : 64];
      v* p = b + 2 * static_cast<size_t>(base + i);
      const size_t step = 2 * static_cast<size_t>(quotient);
      re[0] = p[0];
      im[0] = p[1];
      if (Forward || i == 0) {
        for (int k = 1; k < radix; k++) {
          re[k] = p[k * step];
          im[k] = p[k * step + 1];
        }
      } else {
        for (int k = 1; k < radix; k++) {
          const v a = p[k * step], e = p[k * step + 1];
          const float c = w[2 * k - 2], s = w[2 * k - 1];
          re[k] = a * c - e * s;
          im[k] = a * s + e * c;
        }
      }
      dft<R>(re, im, stage);
      p[0] = re[0];
      p[1] = im[0];
      if (!Forward || i == 0) {
        for (int k = 1; k < radix; k++) {
          p[k * step] = re[k];
          p[k * step + 1] = im[k];
        }
      } else {
        for (int k = 1; k < radix; k++) {
          const float c = w[2 * k - 2], s = w[2 * k - 1];
          p[k * step] = re[k] * c - im[k] * s;
          p[k * step + 1] = re[k] * s + im[k] * c;
        }
      }
    }
  }
}

template <int V, bool Forward>
void run_stage_of_radix(const Stage& stage, int n, lanes<V>* b) {
  switch (stage.radix) {
    case 2: return run_stage<2, V, Forward>(stage, n, b);
    case 3: return run_stage<3, V, Forward>(stage, n, b);
    case 4: return run_stage<4, V, Forward>(stage, n, b);
    case 5: return run_stage<5, V, Forward>(stage, n, b);
    case 6: return run_stage<6, V, Forward>(stage, n, b);
    case 7: return run_stage<7, V, Forward>(stage, n, b);
    case 8: return run_stage<8, V, Forward>(stage, n, b);
    default: return run_stage<0, V, Forward>(stage, n, b);
  }
}

// Runs the sub-transform of n numbers that consists of the stages from `first` on. Splits it if it does not fit the nearest cache.
template <int V, bool Forward>
void run_stages_from(const std::vector<Stage>& stages, size_t first, int n, lanes<V>* b) {
  constexpr size_t kNearestCacheBytes = 32768;
  if (first == stages.size()) return;
  if (2 * static_cast<size_t>(n) * sizeof(lanes<V>) > kNearestCacheBytes) {
    const Stage& stage = stages[first];
    const int quotient = n / stage.radix;
    if (Forward) run_stage_of_radix<V, true>(stage, n, b);
    for (int base = 0; base < n; base += quotient)
      run_stages_from<V, Forward>(stages, first + 1, quotient, b + 2 * static_cast<size_t>(base));
    if (!Forward) run_stage_of_radix<V, false>(stage, n, b);
  } else if (Forward) {
    for (size_t s = first; s < stages.size(); s++) run_stage_of_radix<V, true>(stages[s], n, b);
  } else {
    for (size_t s = stages.size(); s-- > first;) run_stage_of_radix<V, false>(stages[s], n, b);
  }
}

template <int V, bool Forward>
void run_stages(const Transform& transform, lanes<V>* b) {
  run_stages_from<V, Forward>(transform.stages, 0, transform.n, b);
}

// Bluestein: with w_m = e(m^2/2n), Z[k] = w_k sum_m (z_m w_m) conj(w_{k-m}), a convolution. Natural order on both sides.
template <int V>
void run_bluestein(const Transform& transform, lanes<V>* b, lanes<V>* work) {
  typedef lanes<V> v;
  const Transform& inner = transform.inner.front();
  const float *w = transform.chirp.data(), *spectrum = transform.chirp_spectrum.data();
  for (int e = 0; e < transform.n; e++) {
    const v re = b[2 * e], im = b[2 * e + 1];
    work[2 * e] = re * w[2 * e] - im * w[2 * e + 1];
    work[2 * e + 1] = re * w[2 * e + 1] + im * w[2 * e];
  }
  const v zero = v{};
  for (int e = 2 * transform.n; e < 2 * inner.n; e++) work[e] = zero;
  run_stages<V, true>(inner, work);
  for (int e = 0; e < inner.n; e++) {  // swapping real and imaginary parts makes the same transform run backwards
    const v re = work[2 * e], im = work[2 * e + 1];
    work[2 * e + 1] = re * spectrum[2 * e] - im * spectrum[2 * e + 1];
    work[2 * e] = re * spectrum[2 * e + 1] + im * spectrum[2 * e];
  }
  run_stages<V, false>(inner, work);
  for (int e = 0; e < transform.n; e++) {
    const v re = work[2 * e + 1], im = work[2 * e];
    b[2 * e] = re * w[2 * e] - im * w[2 * e + 1];
    b[2 * e + 1] = re * w[2 * e + 1] + im * w[2 * e];
  }
}

template <int V, bool Forward>
FOURIERFT_INLINE void run_transform(const Transform& transform, lanes<V>* b, lanes<V>* work) {
  if (transform.inner.empty())
    run_stages<V, Forward>(transform, b);
  else
    run_bluestein<V>(transform, b, work);
}

// ---- the steps --------------------------------------------------------------------------------------------------------------------

// The offsets of a tile's arrays in the scratch, in numbers of lanes<V>.
struct ScratchLayout {
  size_t buffer, work, in_slots, out_slots, total;
};

FOURIERFT_INLINE size_t buffer_size(const Side& side) { return 2 * static_cast<size_t>(side.transform.n); }

FOURIERFT_INLINE ScratchLayout scratch_layout(const Plan& plan) {
  ScratchLayout layout;
  const auto larger = [](size_t a, size_t b) { return a > b ? a : b; };
  layout.buffer = 0;
  // Between the two transforms the buffer holds one number for each entry and lane, and one additional number for each lane.
  layout.work = larger(larger(buffer_size(plan.in), buffer_size(plan.out)), static_cast<size_t>(plan.n) + 1);
  layout.in_slots = layout.work + 2 * static_cast<size_t>(larger(plan.in.transform.work(), plan.out.transform.work()));
  layout.out_slots = layout.in_slots + 2 * (plan.in.frequencies.size() + 1);
  layout.total = layout.out_slots + 2 * (plan.out.frequencies.size() + 1);
  return layout;
}

// Transforms the numbers in `b`, with stride 1 (even d) or 2 (odd d), and extracts the used frequencies.
template <int V>
void split(const Side& side, lanes<V>* b, lanes<V>* work, lanes<V>* slots) {
  typedef lanes<V> v;
  run_transform<V, true>(side.transform, b, work);
  const int used = static_cast<int>(side.frequencies.size());
  const Split* split = side.splits.data();
  if (!side.is_half_length) {
    for (int s = 0; s < used; s++) {
      slots[2 * s] = b[2 * split[s].a];
      slots[2 * s + 1] = b[2 * split[s].a + 1];
    }
    return;
  }
  // E = (Z[k] + conj Z[N-k])/2 and O = (Z[k] - conj Z[N-k])/2i are the transforms of even and odd elements; X[k] = E + e(k/d) O.
  for (int s = 0; s < used; s++) {
    const v z_re = b[2 * split[s].a], z_im = b[2 * split[s].a + 1], w_re = b[2 * split[s].b], w_im = b[2 * split[s].b + 1];
    const v e_re = (z_re + w_re) * 0.5f, e_im = (z_im - w_im) * 0.5f, o_re = (z_im + w_im) * 0.5f, o_im = (w_re - z_re) * 0.5f;
    slots[2 * s] = e_re + o_re * split[s].cos - o_im * split[s].sin;
    slots[2 * s + 1] = e_im + o_re * split[s].sin + o_im * split[s].cos;
  }
}

template <int V, class Number>
void analyse(const Side& side, const void* rows, int count, lanes<V>* b, lanes<V>* work, lanes<V>* slots) {
  typedef lanes<V> v;
  float* to = reinterpret_cast<float*>(b);
  if (side.is_half_length) {
    load_rows<V, Number>(static_cast<const typename Number::stored*>(rows), side.d, count, to, 1);
  } else {
    load_rows<V, Number>(static_cast<const typename Number::stored*>(rows), side.d, count, to, 2);
    const v zero = v{};
    for (int e = 0; e < side.d; e++) b[2 * e + 1] = zero;
  }
  split<V>(side, b, work, slots);
}

// `coefficients`: [n]. With PerLane: [n][V], one coefficient for each lane, followed by [V], alpha/(d1 d2) of each lane.
template <int V, bool PerLane>
void combine(const Terms& terms, const lanes<V>* from, lanes<V>* to, const float* coefficients) {
  typedef lanes<V> v;
  const auto coefficient = [&](size_t entry) {
    if constexpr (PerLane)
      return load<v, Float32>(coefficients + entry * V);
    else
      return coefficients[entry] - v{};
  };
  const int slots = static_cast<int>(terms.start.size()) - 1;
  const Term* term = terms.terms.data();
  for (int s = 0; s < slots; s++, to += 2) {
    const Term* end = terms.terms.data() + terms.start[s + 1];
    v c = coefficient(term->entry);  // every slot has a term
    v re = from[term->real] * c, im = from[term->real + 1] * (c * term->sign);
    for (term++; term < end; term++) {
      c = coefficient(term->entry);
      re = re + from[term->real] * c;
      im = im + from[term->real + 1] * (c * term->sign);
    }
    if constexpr (PerLane) {
      const v factor = coefficient(terms.terms.size());
      re = re * factor;
      im = im * factor;
    }
    to[0] = re;
    to[1] = im;
  }
}

// Computes Re sum over used frequencies of slots e(pj/d) in `b`, with stride 1 (even d) or 2 (odd d).
template <int V>
void synthesise(const Side& side, lanes<V>* slots, lanes<V>* b, lanes<V>* work) {
  typedef lanes<V> v;
  const v zero = v{};
  const int used = static_cast<int>(side.frequencies.size());
  if (!side.is_half_length) {
    for (size_t e = 0; e < 2 * static_cast<size_t>(side.transform.n); e++) b[e] = zero;
    for (const Pack& pack : side.packs) {
      b[2 * pack.position] = slots[2 * pack.a];
      b[2 * pack.position + 1] = slots[2 * pack.a + 1];
    }
    run_transform<V, false>(side.transform, b, work);
    return;
  }
  // The spectrum of the real part: half of each frequency and half its conjugate at d - j; 0 and d/2 are their own partners.
  for (int s = 0; s < used; s++) {
    if (side.frequencies[s] == 0 || 2 * side.frequencies[s] == side.d) {
      slots[2 * s + 1] = zero;
    } else {
      slots[2 * s] = slots[2 * s] * 0.5f;
      slots[2 * s + 1] = slots[2 * s + 1] * 0.5f;
    }
  }
  slots[2 * used] = zero;
  slots[2 * used + 1] = zero;
  // y[2m] + i y[2m+1] = sum over j < N of ((S[j] + conj S[N-j]) + i e(j/d) (S[j] - conj S[N-j])) e(mj/N)
  for (const Pack& pack : side.packs) {
    const v h_re = slots[2 * pack.a], h_im = slots[2 * pack.a + 1], u_re = slots[2 * pack.b], u_im = -slots[2 * pack.b + 1];
    const v s_re = h_re + u_re, s_im = h_im + u_im, d_re = h_re - u_re, d_im = h_im - u_im;
    b[2 * pack.position] = s_re - (d_re * pack.sin + d_im * pack.cos);
    b[2 * pack.position + 1] = s_im + (d_re * pack.cos - d_im * pack.sin);
  }
  run_transform<V, false>(side.transform, b, work);
}

// Gathers one coefficient for each lane, to[l][V], followed by the factors of the lanes' adapters. The values of lanes without an adapter are
// never used.
template <int V>
void gather_coefficients(int n, const float* coefficients, const float* factors, const int32_t* adapter_of_row, int count, float* to) {
  const float* rows[V];
  for (int lane = 0; lane < V; lane++) {
    const int32_t adapter = lane < count && adapter_of_row[lane] >= 0 ? adapter_of_row[lane] : 0;
    rows[lane] = coefficients + static_cast<size_t>(adapter) * n;
    to[static_cast<size_t>(n) * V + lane] = factors[adapter];
  }
  int l = 0;
  lanes<V> quads[4];
  for (; l + 4 <= n; l += 4) {
    load_quads<V>([&](int lane) { return load<f4, Float32>(rows[lane] + l); }, quads);
    for (int e = 0; e < 4; e++) std::memcpy(to + static_cast<size_t>(l + e) * V, &quads[e], sizeof quads[e]);
  }
  for (; l < n; l++)
    for (int lane = 0; lane < V; lane++) to[static_cast<size_t>(l) * V + lane] = rows[lane][l];
}

FOURIERFT_INLINE bool all_without_adapter(const int32_t* adapter_of_row, int count) {
  if (adapter_of_row == nullptr) return false;
  for (int lane = 0; lane < count; lane++)
    if (adapter_of_row[lane] >= 0) return false;
  return true;
}

template <int V, class Number>
void forward_tile(const Plan& plan, const float* coefficients, const float* factors, const int32_t* adapter_of_row, int count,
                  const void* x, void* y, float* scratch) {
  if (all_without_adapter(adapter_of_row, count)) return;
  lanes<V>* memory = reinterpret_cast<lanes<V>*>(scratch);
  const ScratchLayout layout = scratch_layout(plan);
  lanes<V>*b = memory + layout.buffer, *work = memory + layout.work, *in = memory + layout.in_slots, *out = memory + layout.out_slots;
  analyse<V, Number>(plan.in, x, count, b, work, in);
  if (adapter_of_row != nullptr) {
    float* by_lane = reinterpret_cast<float*>(b);
    gather_coefficients<V>(plan.n, coefficients, factors, adapter_of_row, count, by_lane);
    combine<V, true>(plan.by_row, in, out, by_lane);
  } else {
    combine<V, false>(plan.by_row, in, out, coefficients);
  }
  synthesise<V>(plan.out, out, b, work);
  const Rows<V, typename Number::stored> rows(static_cast<typename Number::stored*>(y), plan.d1, count, adapter_of_row);
  store_rows<V, Number, true>(reinterpret_cast<float*>(b), plan.out.is_half_length ? 1 : 2, plan.d1, rows.of);
}

template <int V, class Number>
void backward_tile(const Plan& plan, const float* coefficients, const float* factors, const int32_t* adapter_of_row, int count,
                   const void* x, const void* grad_y, float* sums, float* products, void* grad_x, float* scratch) {
  typedef lanes<V> v;
  if (all_without_adapter(adapter_of_row, count)) return;
  v* memory = reinterpret_cast<v*>(scratch);
  const ScratchLayout layout = scratch_layout(plan);
  v *b = memory + layout.buffer, *work = memory + layout.work, *in = memory + layout.in_slots, *out = memory + layout.out_slots;
  float* by_lane = reinterpret_cast<float*>(b);
  analyse<V, Number>(plan.in, x, count, b, work, in);
  analyse<V, Number>(plan.out, grad_y, count, b, work, out);
  // Re(G[j_l] X[k_l]) of each lane, summed lane by lane over tiles or added to the products of each row's adapter.
  const int slots = static_cast<int>(plan.by_row.start.size()) - 1;
  for (int s = 0; s < slots; s++) {
    const v re = out[2 * s], im = out[2 * s + 1];
    for (int t = plan.by_row.start[s]; t < plan.by_row.start[s + 1]; t++) {
      const Term& term = plan.by_row.terms[t];
      const v product = re * in[term.real] - im * (in[term.real + 1] * term.sign);
      float* at = adapter_of_row != nullptr ? by_lane + static_cast<size_t>(term.entry) * V
                                            : sums + static_cast<size_t>(term.entry) * FOURIERFT_LANES;
      if (adapter_of_row != nullptr) {
        std::memcpy(at, &product, sizeof product);
      } else {
        v sum;
        std::memcpy(&sum, at, sizeof sum);
        sum = sum + product;
        std::memcpy(at, &sum, sizeof sum);
      }
    }
  }
  if (adapter_of_row != nullptr) {
    float* lane_products[V];  // of each lane's adapter; lanes of the same adapter are added in order
    for (int lane = 0; lane < V; lane++)
      lane_products[lane] = lane < count && adapter_of_row[lane] >= 0 ? products + static_cast<size_t>(adapter_of_row[lane]) * plan.n : nullptr;
    store_rows<V, Float32, true>(by_lane, 1, plan.n, lane_products);
  }
  if (grad_x == nullptr) return;
  if (adapter_of_row != nullptr) {
    gather_coefficients<V>(plan.n, coefficients, factors, adapter_of_row, count, by_lane);
    combine<V, true>(plan.by_column, out, in, by_lane);
  } else {
    combine<V, false>(plan.by_column, out, in, coefficients);
  }
  synthesise<V>(plan.in, in, b, work);
  const Rows<V, typename Number::stored> rows(static_cast<typename Number::stored*>(grad_x), plan.d2, count, adapter_of_row);
  store_rows<V, Number, true>(reinterpret_cast<float*>(b), plan.in.is_half_length ? 1 : 2, plan.d2, rows.of);
}

// Returns whether dW is written without using the caches: if it has 16 MiB or more and all its rows start at the same offset in a cache line.
FOURIERFT_INLINE bool bypasses_caches(const Plan& plan) {
  return plan.d2 % 16 == 0 && static_cast<size_t>(plan.d1) * plan.d2 >= size_t{1} << 22;
}

// Writes rows first ... first+count-1 of dW. The slots hold the transforms of the unit vectors, e(pj/d1). With `restart` they are looked
// up. Otherwise those of the previous tile are multiplied by e(Vj/d1), which loses less than one decimal digit over eight tiles.
template <int V>
void delta_tile(const Plan& plan, const float* coefficients, int first, int count, bool restart, float* delta, float* scratch) {
  typedef lanes<V> v;
  v* memory = reinterpret_cast<v*>(scratch);
  const ScratchLayout layout = scratch_layout(plan);
  v *b = memory + layout.buffer, *work = memory + layout.work, *in = memory + layout.in_slots, *out = memory + layout.out_slots;
  for (size_t s = 0; s < plan.out.frequencies.size(); s++) {
    const int64_t j = plan.out.frequencies[s];
    if (restart) {
      float* slot = reinterpret_cast<float*>(out + 2 * s);
      int at = static_cast<int>(first * j % plan.d1);
      for (int lane = 0; lane < V; lane++) {
        slot[lane] = plan.unit_roots[2 * static_cast<size_t>(at)];
        slot[V + lane] = plan.unit_roots[2 * static_cast<size_t>(at) + 1];
        at += static_cast<int>(j);
        if (at >= plan.d1) at -= plan.d1;
      }
    } else {
      const float* factor = plan.unit_roots.data() + 2 * static_cast<size_t>(V * j % plan.d1);
      const v re = out[2 * s], im = out[2 * s + 1];
      out[2 * s] = re * factor[0] - im * factor[1];
      out[2 * s + 1] = re * factor[1] + im * factor[0];
    }
  }
  combine<V, false>(plan.by_column, out, in, coefficients);
  synthesise<V>(plan.in, in, b, work);
  // dW[-p, -q] = dW[p, q] gives the other half of the rows, backwards. Row 0 and row d1/2 are their own mirror images.
  const int d1 = plan.d1, d2 = plan.d2, stride = plan.in.is_half_length ? 1 : 2;
  const float* lines = reinterpret_cast<const float*>(b);
  const int start = first == 0 ? 1 : 0, end = 2 * (first + count - 1) == d1 ? count - 1 : count;
  float *rows = delta + static_cast<size_t>(first) * d2, *mirror = delta + static_cast<size_t>(d1 - first - start) * d2;
  if (bypasses_caches(plan)) {
    stream_rows<V, false>(lines, stride, d2, count, rows, d2);
    if (start < end) stream_rows<V, true>(lines + start, stride, d2, end - start, mirror, -static_cast<ptrdiff_t>(d2));
    return;
  }
  store_rows<V, Float32, false>(lines, stride, d2, Rows<V, float>(rows, d2, count, nullptr).of);
  for (int lane = start; lane < end; lane++, mirror -= d2) {
    const float* row = rows + static_cast<size_t>(lane) * d2;
    mirror[0] = row[0];
    for (int q = 1; q < d2; q++) mirror[q] = row[d2 - q];
  }
}

// ---- a single token --------------------------------------------------------------------------------------------------------------

// The number of floats of scratch for one side of a token: its transform, and the slots of `residue_side`.
FOURIERFT_INLINE size_t scratch_size_of_one(const Side& side) {
  if (side.residue_side.empty()) return buffer_size(side) + 2 * static_cast<size_t>(side.transform.work());
  const Side& residue_side = side.residue_side.front();
  return 8 * (buffer_size(residue_side) + 2 * static_cast<size_t>(residue_side.transform.work()) + 2 * (residue_side.frequencies.size() + 1));
}

// The number of floats rounded up to whole cache lines.
FOURIERFT_INLINE size_t round_to_lines(size_t numbers) { return (numbers + 15) / 16 * 16; }

template <class Number>
void analyse_one(const Side& side, const typename Number::stored* row, float* memory, float* spectrum) {
  if (side.residue_side.empty()) return analyse<1, Number>(side, row, 1, memory, memory + buffer_size(side), spectrum);
  const Side& residue_side = side.residue_side.front();
  f8 *b = reinterpret_cast<f8*>(memory), *work = b + buffer_size(residue_side), *slots = work + 2 * residue_side.transform.work();
  for (int p = 0; p < residue_side.d; p++) {
    if (residue_side.is_half_length) {
      b[p] = load8<Number>(row + 8 * p);
    } else {
      b[2 * p] = load8<Number>(row + 8 * p);
      b[2 * p + 1] = f8{};
    }
  }
  split<8>(residue_side, b, work, slots);
  // X[k + m d/8] = sum over residues r of e(rm/8) e(rk/d) X_r[k]
  const int count = static_cast<int>(residue_side.frequencies.size());
  const float* residue_twiddles = side.residue_twiddles.data();
  f8* to = reinterpret_cast<f8*>(spectrum);
  for (int first = 0; first < count; first += 8, to += 16) {
    f8 re[8], im[8];
    for (int i = 0; i < 8; i++) {
      const int k = first + i;
      if (k < count) {
        const f8 c = load8<Float32>(residue_twiddles + 16 * k), s = load8<Float32>(residue_twiddles + 16 * k + 8);
        re[i] = slots[2 * k] * c - slots[2 * k + 1] * s;
        im[i] = slots[2 * k] * s + slots[2 * k + 1] * c;
      } else {
        re[i] = f8{};
        im[i] = f8{};
      }
    }
    transpose(re);
    transpose(im);
    dft8(re, im);
    for (int i = 0; i < 8; i++) {
      to[2 * i] = re[i];
      to[2 * i + 1] = im[i];
    }
  }
}

// Does the steps of `analyse_one` backwards and adds the result to the row.
template <class Number>
void synthesise_one(const Side& side, float* spectrum, float* memory, typename Number::stored* row) {
  if (side.residue_side.empty()) {
    synthesise<1>(side, spectrum, memory, memory + buffer_size(side));
    return store_rows<1, Number, true>(memory, side.is_half_length ? 1 : 2, side.d, &row);
  }
  const Side& residue_side = side.residue_side.front();
  f8 *b = reinterpret_cast<f8*>(memory), *work = b + buffer_size(residue_side), *slots = work + 2 * residue_side.transform.work();
  const int count = static_cast<int>(residue_side.frequencies.size());
  const float* residue_twiddles = side.residue_twiddles.data();
  const f8* from = reinterpret_cast<const f8*>(spectrum);
  for (int first = 0; first < count; first += 8, from += 16) {
    f8 re[8], im[8];
    for (int i = 0; i < 8; i++) {
      re[i] = from[2 * i];
      im[i] = from[2 * i + 1];
    }
    dft8(re, im);
    transpose(re);
    transpose(im);
    for (int k = first; k < first + 8 && k < count; k++) {
      const f8 c = load8<Float32>(residue_twiddles + 16 * k), s = load8<Float32>(residue_twiddles + 16 * k + 8);
      slots[2 * k] = re[k - first] * c - im[k - first] * s;
      slots[2 * k + 1] = re[k - first] * s + im[k - first] * c;
    }
  }
  synthesise<8>(residue_side, slots, b, work);
  const int stride = residue_side.is_half_length ? 1 : 2;
  for (int p = 0; p < residue_side.d; p++) store8<Number, true>(b[stride * p], row + 8 * p);
}

// The sparse step of a single token; `combine` is that of a tile.
template <bool Forward>
void combine_one(const Plan& plan, const float* coefficients, float factor, const float* from, float* to) {
  const Side &source = Forward ? plan.in : plan.out, &target = Forward ? plan.out : plan.in;
  const int from_imaginary = source.imaginary, to_imaginary = target.imaginary;
  std::memset(to, 0, sizeof(float) * static_cast<size_t>(target.spectrum_size));
  const Link* links = plan.links.data();
  for (int l = 0; l < plan.n; l++) {
    const float c = coefficients[l] * factor;
    const float* x = from + (Forward ? links[l].in : links[l].out);
    float* g = to + (Forward ? links[l].out : links[l].in);
    g[0] += c * x[0];
    g[to_imaginary] += c * links[l].sign * x[from_imaginary];
  }
}

template <class Number>
void forward_one(const Plan& plan, const float* coefficients, float factor, const typename Number::stored* x,
                 typename Number::stored* y, float* memory) {
  float *in = memory, *out = in + round_to_lines(plan.in.spectrum_size), *rest = out + round_to_lines(plan.out.spectrum_size);
  analyse_one<Number>(plan.in, x, rest, in);
  combine_one<true>(plan, coefficients, factor, in, out);
  synthesise_one<Number>(plan.out, out, rest, y);
}

template <class Number>
void backward_one(const Plan& plan, const float* coefficients, float factor, const typename Number::stored* x,
                  const typename Number::stored* grad_y, float* products, typename Number::stored* grad_x, float* memory) {
  float *in = memory, *out = in + round_to_lines(plan.in.spectrum_size), *rest = out + round_to_lines(plan.out.spectrum_size);
  analyse_one<Number>(plan.in, x, rest, in);
  analyse_one<Number>(plan.out, grad_y, rest, out);
  const int in_imaginary = plan.in.imaginary, out_imaginary = plan.out.imaginary;
  const Link* links = plan.links.data();
  for (int l = 0; l < plan.n; l++) {
    const float *a = in + links[l].in, *b = out + links[l].out;
    products[l] += a[0] * b[0] - a[in_imaginary] * (b[out_imaginary] * links[l].sign);
  }
  if (grad_x == nullptr) return;
  combine_one<false>(plan, coefficients, factor, out, in);
  synthesise_one<Number>(plan.in, in, rest, grad_x);
}

// ---- tiles over tokens -------------------------------------------------------------------------------------------------------------

size_t scratch_size(const Plan& plan) {
  // the arrays of a tile, and the lane sums of the gradient
  const size_t tile = (scratch_layout(plan).total + static_cast<size_t>(plan.n)) * FOURIERFT_LANES;
  const size_t in = scratch_size_of_one(plan.in), out = scratch_size_of_one(plan.out);
  const size_t one = round_to_lines(plan.in.spectrum_size) + round_to_lines(plan.out.spectrum_size) + (in > out ? in : out);
  return (tile > one ? tile : one) + 64;
}

// Calls tile<V>(first, count) for tiles of tokens (or rows of dW). Calls one(token) for each of the last tokens if they are at most `max_single`:
// a tile would cost more.
template <class Tile, class One>
FOURIERFT_INLINE void for_tiles(int64_t tokens, int max_single, Tile tile, One one) {
  int64_t done = 0;
  while (done < tokens) {
    const int64_t left = tokens - done;
    if (left <= max_single) {
      one(done++);
      continue;
    }
    constexpr bool wide = FOURIERFT_LANES == 16;
    const int width = wide && left > 8 ? 16 : 8, count = static_cast<int>(left < width ? left : width);
    if (width == 8)
      tile(std::integral_constant<int, 8>(), done, count);
    else
      tile(std::integral_constant<int, FOURIERFT_LANES>(), done, count);
    done += count;
  }
}

// The largest number of tokens that are faster one by one than in a tile of eight.
FOURIERFT_INLINE int max_single_tokens(const Plan& plan) { return plan.in.residue_side.empty() || plan.out.residue_side.empty() ? 1 : 3; }

template <class Number>
void forward_numbers(const Plan& plan, const float* coefficients, Tokens tokens, const void* x_, void* y_, float* memory) {
  typedef typename Number::stored stored;
  const stored* x = static_cast<const stored*>(x_);
  stored* y = static_cast<stored*>(y_);
  for_tiles(
      tokens.count, max_single_tokens(plan),
      [&](auto width, int64_t first, int count) {
        forward_tile<decltype(width)::value, Number>(plan, coefficients, tokens.factors,
                                                     tokens.adapter_of_row == nullptr ? nullptr : tokens.adapter_of_row + first, count,
                                                     x + first * plan.d2, y + first * plan.d1, memory);
      },
      [&](int64_t token) {
        const int32_t adapter = tokens.adapter_of_row == nullptr ? 0 : tokens.adapter_of_row[token];
        if (adapter < 0) return;
        forward_one<Number>(plan, coefficients + static_cast<size_t>(adapter) * plan.n,
                            tokens.adapter_of_row == nullptr ? 1.f : tokens.factors[adapter], x + token * plan.d2, y + token * plan.d1,
                            memory);
      });
}

template <class Number>
void backward_numbers(const Plan& plan, const float* coefficients, Tokens tokens, const void* x_, const void* grad_y_, float* products,
                      void* grad_x_, float* memory) {
  typedef typename Number::stored stored;
  const stored *x = static_cast<const stored*>(x_), *grad_y = static_cast<const stored*>(grad_y_);
  stored* grad_x = static_cast<stored*>(grad_x_);
  const int max_single = max_single_tokens(plan);
  const bool sum_lanes = tokens.adapter_of_row == nullptr && tokens.count > max_single;
  float* sums = memory + scratch_layout(plan).total * FOURIERFT_LANES;
  if (sum_lanes) std::memset(sums, 0, sizeof(float) * static_cast<size_t>(plan.n) * FOURIERFT_LANES);
  for_tiles(
      tokens.count, max_single,
      [&](auto width, int64_t first, int count) {
        backward_tile<decltype(width)::value, Number>(plan, coefficients, tokens.factors,
                                                      tokens.adapter_of_row == nullptr ? nullptr : tokens.adapter_of_row + first, count,
                                                      x + first * plan.d2, grad_y + first * plan.d1, sums, products,
                                                      grad_x == nullptr ? nullptr : grad_x + first * plan.d2, memory);
      },
      [&](int64_t token) {
        const int32_t adapter = tokens.adapter_of_row == nullptr ? 0 : tokens.adapter_of_row[token];
        if (adapter < 0) return;
        const size_t offset = static_cast<size_t>(adapter) * plan.n;
        backward_one<Number>(plan, coefficients + offset, tokens.adapter_of_row == nullptr ? 1.f : tokens.factors[adapter],
                             x + token * plan.d2, grad_y + token * plan.d1, products + offset,
                             grad_x == nullptr ? nullptr : grad_x + token * plan.d2, memory);
      });
  if (!sum_lanes) return;
  for (int l = 0; l < plan.n; l++) {
    float sum = 0;
    for (int lane = 0; lane < FOURIERFT_LANES; lane++) sum += sums[static_cast<size_t>(l) * FOURIERFT_LANES + lane];
    products[l] += sum;
  }
}

void forward(const Plan& plan, const float* coefficients, Tokens tokens, const void* x, void* y, float* memory) {
  switch (tokens.dtype) {
    case FOURIERFT_FLOAT32: return forward_numbers<Float32>(plan, coefficients, tokens, x, y, memory);
    case FOURIERFT_FLOAT16: return forward_numbers<Float16>(plan, coefficients, tokens, x, y, memory);
    case FOURIERFT_BFLOAT16: return forward_numbers<BFloat16>(plan, coefficients, tokens, x, y, memory);
  }
}

void backward(const Plan& plan, const float* coefficients, Tokens tokens, const void* x, const void* grad_y, float* products,
              void* grad_x, float* memory) {
  switch (tokens.dtype) {
    case FOURIERFT_FLOAT32: return backward_numbers<Float32>(plan, coefficients, tokens, x, grad_y, products, grad_x, memory);
    case FOURIERFT_FLOAT16: return backward_numbers<Float16>(plan, coefficients, tokens, x, grad_y, products, grad_x, memory);
    case FOURIERFT_BFLOAT16: return backward_numbers<BFloat16>(plan, coefficients, tokens, x, grad_y, products, grad_x, memory);
  }
}

void delta(const Plan& plan, const float* coefficients, int first, int last, float* to, float* memory) {
  int tile = 0, width_before = 0;
  for_tiles(
      last - first, 0,
      [&](auto width, int64_t done, int count) {
        constexpr int lanes = decltype(width)::value;
        const bool restart = tile++ % 8 == 0 || lanes != width_before;
        width_before = lanes;
        delta_tile<lanes>(plan, coefficients, first + static_cast<int>(done), count, restart, to, memory);
      },
      [](int64_t) {});
  if (bypasses_caches(plan)) end_stream();
}

}  // namespace
}  // namespace FOURIERFT_ISA
}  // namespace fourierft
