// Compares the CUDA kernels with the equations in double precision and with the CPU kernel. Compiled by nvcc, the program runs on a CUDA device;
// without a device it prints a line and exits with 77. Compiled by a host compiler with host-shim/ on its path, it runs on the CPU, in several
// orders of a block's threads, and also with each barrier left out in turn.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "fourierft-cuda.h"
#include "fourierft/fourierft.h"

namespace {

int failures = 0, checks = 0;

void check(bool ok, const char* name, double found, double limit) {
  checks++;
  if (ok) return;
  failures++;
  std::printf("FAILED %s: %.3g, limit %.3g\n", name, found, limit);
}

// An array in device memory.
template <class T>
class Device {
 public:
  explicit Device(const std::vector<T>& values) : size_(values.size()) {
    check(cudaMalloc(&memory_, std::max<size_t>(1, size_ * sizeof(T))) == cudaSuccess, "cudaMalloc", 1, 0);
    if (size_ > 0) cudaMemcpy(memory_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  Device(const Device&) = delete;
  ~Device() { cudaFree(memory_); }
  T* get() const { return memory_; }
  std::vector<T> values() const {
    std::vector<T> result(size_);
    if (size_ > 0) cudaMemcpy(result.data(), memory_, size_ * sizeof(T), cudaMemcpyDeviceToHost);
    return result;
  }

 private:
  T* memory_ = nullptr;
  size_t size_;
};

struct Problem {
  int d1, d2, n, adapters, tokens;
  std::vector<uint32_t> rows, columns;
  std::vector<float> coefficients, scalings, x, grad_y;
  std::vector<int64_t> adapter_of_row;
};

Problem make(int d1, int d2, int n, int adapters, int tokens, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Problem p{d1, d2, std::min<int>(n, d1 * d2), adapters, tokens, {}, {}, {}, {}, {}, {}, {}};
  std::set<uint64_t> used;
  const auto take = [&](uint64_t v) {
    if (static_cast<int>(used.size()) < p.n && used.insert(v).second) p.rows.push_back(v / d2), p.columns.push_back(v % d2);
  };
  // The first entries: zero frequency, both Nyquist frequencies, a conjugate pair
  const uint64_t e = d1, f = d2;
  take(0);
  take(e / 2 * f + f / 2);
  if (e > 1 && f > 1) take(f + 1), take((e - 1) * f + f - 1);
  while (static_cast<int>(used.size()) < p.n) take(random() % (e * f));
  for (int i = 0; i < p.n * adapters; i++) p.coefficients.push_back(normal(random));
  for (int a = 0; a < adapters; a++) p.scalings.push_back(100.f + a);
  for (int i = 0; i < tokens * d2; i++) p.x.push_back(normal(random));
  for (int i = 0; i < tokens * d1; i++) p.grad_y.push_back(normal(random));
  for (int t = 0; t < tokens; t++) p.adapter_of_row.push_back(static_cast<int>(random() % (adapters + 1)) - 1);
  if (adapters > 0 && tokens > 1) p.adapter_of_row[0] = -1, p.adapter_of_row[1] = adapters - 1;
  return p;
}

typedef std::complex<double> Complex;

std::vector<Complex> unit_circle(int d) {
  std::vector<Complex> result;
  for (int m = 0; m < d; m++) result.push_back(std::polar(1.0, 2 * 3.14159265358979323846 * m / d));
  return result;
}

Complex transform(const std::vector<Complex>& unit, const float* row, uint32_t frequency) {
  const size_t d = unit.size();
  double re = 0, im = 0;
  for (size_t q = 0, at = 0; q < d; q++, at = at + frequency >= d ? at + frequency - d : at + frequency) {
    re += row[q] * unit[at].real();
    im += row[q] * unit[at].imag();
  }
  return {re, im};
}

void add_wave(const std::vector<Complex>& unit, uint32_t frequency, Complex amplitude, double* row) {
  const size_t d = unit.size();
  for (size_t p = 0, at = 0; p < d; p++, at = at + frequency >= d ? at + frequency - d : at + frequency)
    row[p] += amplitude.real() * unit[at].real() - amplitude.imag() * unit[at].imag();
}

struct Result {
  std::vector<float> y, gc, gx;
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
bool same(const Result& a, const Result& b) { return same(a.y, b.y) && same(a.gc, b.gc) && same(a.gx, b.gx); }

class Runner {
 public:
  explicit Runner(const Problem& p)
      : problem_(p), coefficients_(p.coefficients), scalings_(p.scalings), x_(p.x), grad_y_(p.grad_y), adapter_of_row_(p.adapter_of_row) {
    fourierft_plan_create(p.d1, p.d2, p.n, p.rows.data(), p.columns.data(), &host_);
    status_ = fourierft_cuda_plan_create(p.d1, p.d2, p.n, p.rows.data(), p.columns.data(), &plan_);
    cudaStreamCreate(&stream_);
  }
  Runner(const Runner&) = delete;
  ~Runner() {
    cudaStreamDestroy(stream_);
    fourierft_cuda_plan_destroy(plan_);
    fourierft_plan_destroy(host_);
  }
  fourierft_cuda_status status() const { return status_; }

  // Outputs start as 1, except the gradient of the coefficients, which is written.
  Result run(bool by_row) const {
    const Problem& p = problem_;
    Device<float> y(std::vector<float>(static_cast<size_t>(p.tokens) * p.d1, 1)), gx(std::vector<float>(static_cast<size_t>(p.tokens) * p.d2, 1)),
        gc(std::vector<float>(static_cast<size_t>(p.adapters) * p.n, 7));
    Device<char> workspace(std::vector<char>(fourierft_cuda_workspace(plan_, p.tokens), 0x7f));
    const int64_t* adapter_of_row = by_row ? adapter_of_row_.get() : nullptr;
    check(fourierft_cuda_forward(plan_, coefficients_.get(), p.adapters, scalings_.get(), FOURIERFT_FLOAT32, x_.get(), p.tokens, adapter_of_row,
                                 p.tokens, y.get(), stream_) == FOURIERFT_CUDA_OK, "forward", 1, 0);
    check(fourierft_cuda_backward(plan_, coefficients_.get(), p.adapters, scalings_.get(), FOURIERFT_FLOAT32, x_.get(), grad_y_.get(),
                                  p.tokens, adapter_of_row, p.tokens, gc.get(), gx.get(), workspace.get(), stream_) == FOURIERFT_CUDA_OK,
          "backward", 1, 0);
    check(cudaStreamSynchronize(stream_) == cudaSuccess, "kernels", 1, 0);
    return {y.values(), gc.values(), gx.values()};
  }

  Result run_on_cpu(bool by_row) const {
    const Problem& p = problem_;
    Result result{std::vector<float>(static_cast<size_t>(p.tokens) * p.d1, 1), std::vector<float>(static_cast<size_t>(p.adapters) * p.n, 7),
                  std::vector<float>(static_cast<size_t>(p.tokens) * p.d2, 1)};
    const std::vector<int32_t> adapters_int32(p.adapter_of_row.begin(), p.adapter_of_row.end());
    const int32_t* adapter_of_row = by_row ? adapters_int32.data() : nullptr;
    fourierft_forward(host_, p.coefficients.data(), p.adapters, p.scalings.data(), FOURIERFT_FLOAT32, p.x.data(), p.tokens, adapter_of_row,
                      result.y.data(), nullptr);
    fourierft_backward(host_, p.coefficients.data(), p.adapters, p.scalings.data(), FOURIERFT_FLOAT32, p.x.data(), p.grad_y.data(), p.tokens,
                       adapter_of_row, result.gc.data(), result.gx.data(), nullptr);
    return result;
  }

  // y of x = `input`, from zero, in a format of 16 bits.
  std::vector<uint16_t> run_half(fourierft_dtype dtype, const std::vector<uint16_t>& input, bool by_row) const {
    const Problem& p = problem_;
    Device<uint16_t> x(input), y(std::vector<uint16_t>(static_cast<size_t>(p.tokens) * p.d1, 0));
    check(fourierft_cuda_forward(plan_, coefficients_.get(), p.adapters, scalings_.get(), dtype, x.get(), p.tokens,
                                 by_row ? adapter_of_row_.get() : nullptr, p.tokens, y.get(), stream_) == FOURIERFT_CUDA_OK, "half", 1, 0);
    cudaStreamSynchronize(stream_);
    return y.values();
  }
  std::vector<uint16_t> run_half_on_cpu(fourierft_dtype dtype, const std::vector<uint16_t>& input, bool by_row) const {
    const Problem& p = problem_;
    std::vector<uint16_t> y(static_cast<size_t>(p.tokens) * p.d1, 0);
    const std::vector<int32_t> adapters_int32(p.adapter_of_row.begin(), p.adapter_of_row.end());
    fourierft_forward(host_, p.coefficients.data(), p.adapters, p.scalings.data(), dtype, input.data(), p.tokens,
                      by_row ? adapters_int32.data() : nullptr, y.data(), nullptr);
    return y;
  }

 private:
  const Problem& problem_;
  Device<float> coefficients_, scalings_, x_, grad_y_;
  Device<int64_t> adapter_of_row_;
  fourierft_plan* host_ = nullptr;
  fourierft_cuda_plan* plan_ = nullptr;
  fourierft_cuda_status status_;
  cudaStream_t stream_ = nullptr;
};

template <class Expected>
void compare(const std::vector<float>& found, const std::vector<Expected>& expected, double limit, const char* name) {
  double worst = found.size() == expected.size() ? 0 : NAN;
  for (size_t i = 0; i < found.size() && i < expected.size(); i++) {
    const double error = std::fabs(found[i] - static_cast<double>(expected[i]));
    worst = error > worst || error != error ? error : worst;
  }
  check(worst <= limit, name, worst, limit);
}

double norm(const float* values, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += static_cast<double>(values[i]) * values[i];
  return std::sqrt(sum);
}

float from_half(fourierft_dtype dtype, uint16_t half) {
  if (dtype == FOURIERFT_BFLOAT16) {
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return static_cast<float>(half & 0x8000 ? -magnitude : magnitude);
}

void compare(const Problem& p) {
  char name[160];
  std::snprintf(name, sizeof name, "d1=%d d2=%d n=%d adapters=%d tokens=%d", p.d1, p.d2, p.n, p.adapters, p.tokens);
  const Runner runner(p);
  check(runner.status() == FOURIERFT_CUDA_OK, name, runner.status(), 0);
  if (runner.status() != FOURIERFT_CUDA_OK) return;

  const double area = static_cast<double>(p.d1) * p.d2;
  const std::vector<Complex> unit1 = unit_circle(p.d1), unit2 = unit_circle(p.d2);
  // A transform of length d in float32 loses about 2^-24 log2 d of the norm of its input. Four such losses, as for the CPU kernel
  // (kernel-test.cc): two transforms, the sparse step and the addition; and one rounding of the output, which starts at 1. dW's norm is at most
  // alpha |c| / sqrt(d1 d2) by Parseval's equation.
  const double loss = 4 * std::ldexp(1, -24) * std::max(1.0, std::log2(area));
  double norm_w = 0, norm_x = 0, norm_g = 0, norm_outer = 0, max_scaling = 0;
  for (int a = 0; a < p.adapters; a++) {
    norm_w += p.scalings[a] * norm(p.coefficients.data() + static_cast<size_t>(a) * p.n, p.n) / std::sqrt(area);
    max_scaling = std::max<double>(max_scaling, p.scalings[a]);
  }
  for (int t = 0; t < p.tokens; t++) {
    const double x = norm(p.x.data() + static_cast<size_t>(t) * p.d2, p.d2), g = norm(p.grad_y.data() + static_cast<size_t>(t) * p.d1, p.d1);
    norm_x = std::max(norm_x, x);
    norm_g = std::max(norm_g, g);
    norm_outer += x * g;
  }

  for (const bool by_row : {false, true}) {
    std::vector<double> y(static_cast<size_t>(p.tokens) * p.d1, 1), gx(static_cast<size_t>(p.tokens) * p.d2, 1),
        gc(static_cast<size_t>(p.adapters) * p.n, 0);
    for (int t = 0; t < p.tokens; t++)
      for (int l = 0; l < p.n; l++) {
        double c = 0;
        for (int a = 0; a < p.adapters; a++)
          if (!by_row || p.adapter_of_row[t] == a) c += p.scalings[a] * static_cast<double>(p.coefficients[static_cast<size_t>(a) * p.n + l]) / area;
        if (by_row && p.adapter_of_row[t] < 0) continue;
        const Complex x = transform(unit2, p.x.data() + static_cast<size_t>(t) * p.d2, p.columns[l]),
                      g = transform(unit1, p.grad_y.data() + static_cast<size_t>(t) * p.d1, p.rows[l]);
        add_wave(unit1, p.rows[l], c * x, y.data() + static_cast<size_t>(t) * p.d1);
        add_wave(unit2, p.columns[l], c * g, gx.data() + static_cast<size_t>(t) * p.d2);
        for (int a = 0; a < p.adapters; a++)
          if (!by_row || p.adapter_of_row[t] == a) gc[static_cast<size_t>(a) * p.n + l] += p.scalings[a] / area * (x * g).real();
      }
    const double rounding = std::ldexp(1, -24);
    const auto largest = [](const std::vector<double>& values) {
      double result = 0;
      for (double value : values) result = std::max(result, std::fabs(value));
      return result;
    };
    const double limit_y = loss * norm_w * norm_x + rounding * largest(y), limit_gx = loss * norm_w * norm_g + rounding * largest(gx),
                 limit_gc = loss * max_scaling / area * norm_outer + rounding * largest(gc);
    const Result found = runner.run(by_row), cpu = runner.run_on_cpu(by_row);
    compare(found.y, y, limit_y, name);
    compare(found.gx, gx, limit_gx, name);
    compare(found.gc, gc, limit_gc, name);
    // Both kernels are within these limits of the equations.
    compare(found.y, cpu.y, 2 * limit_y, name);
    compare(found.gx, cpu.gx, 2 * limit_gx, name);
    compare(found.gc, cpu.gc, 2 * limit_gc, name);
#ifdef HOST_SHIM
    host_shim::settings.order = by_row ? host_shim::Order::shuffled : host_shim::Order::descending;
    check(same(runner.run(by_row), found), name, 1, 0);
    host_shim::settings.order = host_shim::Order::ascending;
#else
    for (int again = 0; again < 3; again++) check(same(runner.run(by_row), found), name, 1, 0);
#endif

    // 16 bits: both kernels round the result of the same input once; `step` is that of the output's format.
    for (const fourierft_dtype dtype : {FOURIERFT_FLOAT16, FOURIERFT_BFLOAT16}) {
      const double step = std::ldexp(1, dtype == FOURIERFT_BFLOAT16 ? -8 : -11);
      std::mt19937 random(static_cast<unsigned>(p.d1 + p.d2));
      std::vector<uint16_t> input;
      // numbers of 2^-2 ... 2 of either sign
      for (size_t i = 0; i < p.x.size(); i++) {
        const uint16_t sign = static_cast<uint16_t>((random() & 1) << 15), rest = static_cast<uint16_t>(random());
        input.push_back(dtype == FOURIERFT_BFLOAT16 ? sign | (0x3e80 + rest % 0x180) : sign | (0x3400 + rest % 0xc00));
      }
      const std::vector<uint16_t> y16 = runner.run_half(dtype, input, by_row), cpu16 = runner.run_half_on_cpu(dtype, input, by_row);
      // |x| < 2 sqrt(d2) bounds the norm of a token.
      const double half_limit = 2 * loss * norm_w * 2 * std::sqrt(p.d2) + std::ldexp(1, -24);
      double worst = 0;
      for (size_t i = 0; i < y16.size(); i++) {
        const double a = from_half(dtype, y16[i]), b = from_half(dtype, cpu16[i]);
        const double excess = std::fabs(a - b) - 2 * step * std::max(std::fabs(a), std::fabs(b));
        worst = excess > worst || excess != excess ? excess : worst;
      }
      check(worst <= half_limit, name, worst, half_limit);
    }
  }
}

void reject_invalid_arguments() {
  const Problem p = make(4, 6, 5, 2, 4, 1);
  fourierft_cuda_plan* plan = nullptr;
  const auto create = [&](uint32_t d1, uint32_t d2, uint32_t n) {
    return fourierft_cuda_plan_create(d1, d2, n, p.rows.data(), p.columns.data(), &plan);
  };
  check(fourierft_cuda_plan_create(4, 6, 5, p.rows.data(), p.columns.data(), nullptr) == FOURIERFT_CUDA_INVALID_ARGUMENT, "no plan", 1, 0);
  check(create(0, 6, 5) == FOURIERFT_CUDA_INVALID_SHAPE, "no rows", 1, 0);
  check(create(1, 6, 5) == FOURIERFT_CUDA_INVALID_ENTRY, "an entry outside", 1, 0);
  check(plan == nullptr && create(4, 6, 5) == FOURIERFT_CUDA_OK, "plan", 1, 0);
  Device<float> c(p.coefficients), scalings(p.scalings), x(p.x), y(std::vector<float>(16, 1)), gc(std::vector<float>(10, 7));
  const auto forward = [&](int32_t adapters, int64_t tokens, const int64_t* adapter_of_row, int64_t rows, int dtype = 0) {
    return fourierft_cuda_forward(plan, c.get(), adapters, scalings.get(), static_cast<fourierft_dtype>(dtype), x.get(), tokens, adapter_of_row, rows,
                                  y.get(), nullptr);
  };
  Device<int64_t> adapter_of_row(std::vector<int64_t>{1, -1});
  check(forward(-1, 4, nullptr, 0) == FOURIERFT_CUDA_INVALID_ARGUMENT, "a negative number of adapters", 1, 0);
  check(forward(2, -1, nullptr, 0) == FOURIERFT_CUDA_INVALID_ARGUMENT, "a negative number of tokens", 1, 0);
  check(forward(2, 4, adapter_of_row.get(), 3) == FOURIERFT_CUDA_INVALID_ARGUMENT, "rows that do not divide the tokens", 1, 0);
  check(forward(2, 4, nullptr, 0, 3) == FOURIERFT_CUDA_INVALID_ARGUMENT, "an unknown dtype", 1, 0);
  check(y.values() == std::vector<float>(16, 1), "y is unchanged", 1, 0);
  check(forward(0, 4, nullptr, 0) == FOURIERFT_CUDA_OK && forward(2, 0, nullptr, 0) == FOURIERFT_CUDA_OK, "nothing to do", 1, 0);
  check(y.values() == std::vector<float>(16, 1), "y is unchanged", 1, 0);

  // Two tokens for each row; the second two tokens have no adapter and do not change.
  check(forward(2, 4, adapter_of_row.get(), 2) == FOURIERFT_CUDA_OK, "rows of two tokens", 1, 0);
  const std::vector<float> after = y.values();
  for (int i = 0; i < 16; i++) check((after[i] != 1) == (i < 8), "rows of two tokens", i, 8);

  // An index out of range reads nothing and makes only its row NaN.
  Device<int64_t> out_of_range(std::vector<int64_t>{0, 2, -2, 1});
  Device<float> gx(std::vector<float>(24, 0)), grad_y(p.grad_y);
  Device<char> workspace(std::vector<char>(fourierft_cuda_workspace(plan, 4), 0x7f));
  check(forward(2, 4, out_of_range.get(), 4) == FOURIERFT_CUDA_OK, "an adapter index out of range", 1, 0);
  check(fourierft_cuda_backward(plan, c.get(), 2, scalings.get(), FOURIERFT_FLOAT32, x.get(), grad_y.get(), 4, out_of_range.get(), 4, gc.get(),
                                gx.get(), workspace.get(), nullptr) == FOURIERFT_CUDA_OK, "an adapter index out of range", 1, 0);
  const std::vector<float> y_values = y.values(), gradient = gx.values();
  for (int t = 0; t < 4; t++) {
    for (int i = 0; i < 4; i++) check(std::isnan(y_values[4 * t + i]) == (t == 1 || t == 2), "an adapter index out of range", t, 1);
    for (int i = 0; i < 6; i++) check(std::isnan(gradient[6 * t + i]) == (t == 1 || t == 2), "an adapter index out of range", t, 1);
  }
  for (const float value : gc.values()) check(std::isfinite(value), "an adapter index out of range", value, 0);

  // Without tokens the gradient is zero; the gradient for x is optional.
  check(fourierft_cuda_backward(plan, c.get(), 2, scalings.get(), FOURIERFT_FLOAT32, nullptr, nullptr, 0, nullptr, 0, gc.get(), nullptr,
                                nullptr, nullptr) == FOURIERFT_CUDA_OK, "no tokens", 1, 0);
  check(gc.values() == std::vector<float>(10, 0), "no tokens", 1, 0);
  check(fourierft_cuda_backward(plan, c.get(), 2, scalings.get(), FOURIERFT_FLOAT32, x.get(), grad_y.get(), 4, nullptr, 0, gc.get(), nullptr,
                                workspace.get(), nullptr) == FOURIERFT_CUDA_OK, "no gradient for x", 1, 0);
  for (const float value : gc.values()) check(value != 0, "no gradient for x", value, 0);

  // Without scalings the coefficients include alpha; without a workspace the library uses that of the stream.
  {
    std::vector<float> scaled = p.coefficients;
    for (int i = 0; i < 10; i++) scaled[i] *= i < 5 ? 4.f : 0.5f;  // exact
    Device<float> scaled_coefficients(scaled), powers(std::vector<float>{4.f, 0.5f});
    const auto results = [&](const Device<float>& from, const float* scalings, void* memory) {
      Device<float> out(std::vector<float>(16, 1)), out_gc(std::vector<float>(10, 7)), out_gx(std::vector<float>(24, 0));
      check(fourierft_cuda_forward(plan, from.get(), 2, scalings, FOURIERFT_FLOAT32, x.get(), 4, nullptr, 0, out.get(), nullptr) ==
                    FOURIERFT_CUDA_OK &&
                fourierft_cuda_backward(plan, from.get(), 2, scalings, FOURIERFT_FLOAT32, x.get(), grad_y.get(), 4, nullptr, 0, out_gc.get(),
                                        out_gx.get(), memory, nullptr) == FOURIERFT_CUDA_OK,
            "no scalings", 1, 0);
      return Result{out.values(), out_gc.values(), out_gx.values()};
    };
    const Result expected = results(scaled_coefficients, nullptr, workspace.get());
    check(same(results(scaled_coefficients, nullptr, nullptr), expected), "no workspace", 1, 0);
    Result with_scalings = results(c, powers.get(), nullptr);
    check(same(with_scalings.y, expected.y) && same(with_scalings.gx, expected.gx), "no scalings", 1, 0);
    for (int i = 0; i < 10; i++) check(with_scalings.gc[i] == expected.gc[i] * (i < 5 ? 4.f : 0.5f), "no scalings", with_scalings.gc[i], expected.gc[i]);
  }

  // Copies and zeros are queued with the kernels.
  Device<float> copy(std::vector<float>(24, 7));
  check(fourierft_cuda_copy(copy.get(), x.get(), 20 * sizeof(float), nullptr) == FOURIERFT_CUDA_OK, "copy", 1, 0);
  check(fourierft_cuda_zero(copy.get() + 22, sizeof(float), nullptr) == FOURIERFT_CUDA_OK, "zero", 1, 0);
  std::vector<float> copied(p.x.begin(), p.x.begin() + 20);
  copied.insert(copied.end(), {7, 7, 0, 7});
  check(same(copy.values(), copied), "copy", 1, 0);
  check(fourierft_cuda_copy(nullptr, x.get(), 4, nullptr) == FOURIERFT_CUDA_INVALID_ARGUMENT &&
            fourierft_cuda_zero(nullptr, 4, nullptr) == FOURIERFT_CUDA_INVALID_ARGUMENT && fourierft_cuda_zero(nullptr, 0, nullptr) == FOURIERFT_CUDA_OK,
        "copy nothing", 1, 0);

  // NaN and infinity stay in their token.
  for (const float bad : {NAN, INFINITY}) {
    std::vector<float> values = p.x;
    values[1] = bad;
    Device<float> mixed(values), out(std::vector<float>(16, 0));
    fourierft_cuda_forward(plan, c.get(), 2, scalings.get(), FOURIERFT_FLOAT32, mixed.get(), 4, nullptr, 0, out.get(), nullptr);
    const std::vector<float> found = out.values();
    for (int i = 0; i < 16; i++) check(std::isfinite(found[i]) == (i >= 4), "NaN stays in its token", i, 4);
  }
  fourierft_cuda_plan_destroy(plan);
}

// If there are more tokens than the workspace holds, the gradient is the sum over chunks.
void compare_in_chunks() { compare(make(6, 4, 7, 2, 1024 + 37, 5)); }

#ifdef HOST_SHIM
// A device with less shared memory rejects some shapes that an H100 accepts.
void reject_rows_too_large_for_shared_memory() {
  const Problem p = make(14336, 4096, 1000, 1, 0, 9);
  host_shim::settings.shared_memory = 65536;  // sm_75
  fourierft_cuda_plan* plan = nullptr;
  const auto create = [&] { return fourierft_cuda_plan_create(p.d1, p.d2, p.n, p.rows.data(), p.columns.data(), &plan); };
  check(create() == FOURIERFT_CUDA_SHARED_MEMORY && plan == nullptr, "65536 bytes", 1, 0);
  host_shim::settings.shared_memory = 232448;
  check(create() == FOURIERFT_CUDA_OK, "232448 bytes", 1, 0);
  fourierft_cuda_plan_destroy(plan);
}

// After the first calls no call allocates or waits. A gradient for more tokens allocates a larger workspace once.
void queue_without_waiting() {
  const Problem p = make(12, 10, 20, 2, 8, 3);
  fourierft_cuda_plan* plan = nullptr;
  check(fourierft_cuda_plan_create(p.d1, p.d2, p.n, p.rows.data(), p.columns.data(), &plan) == FOURIERFT_CUDA_OK, "plan", 1, 0);
  Device<float> c(p.coefficients), x(p.x), grad_y(p.grad_y), y(std::vector<float>(8 * 12, 0)), gc(std::vector<float>(40, 0)),
      gx(std::vector<float>(80, 0));
  Device<int64_t> adapter_of_row(std::vector<int64_t>{0, 1, -1, 1});
  const auto waits_of = [&](int64_t tokens) {
    const int before = host_shim::waits;
    const bool ok =
        fourierft_cuda_copy(y.get(), grad_y.get(), tokens * 12 * sizeof(float), nullptr) == FOURIERFT_CUDA_OK &&
        fourierft_cuda_zero(gx.get(), tokens * 10 * sizeof(float), nullptr) == FOURIERFT_CUDA_OK &&
        fourierft_cuda_forward(plan, c.get(), 2, nullptr, FOURIERFT_FLOAT32, x.get(), tokens, adapter_of_row.get(), 4, y.get(), nullptr) ==
            FOURIERFT_CUDA_OK &&
        fourierft_cuda_backward(plan, c.get(), 2, nullptr, FOURIERFT_FLOAT32, x.get(), grad_y.get(), tokens, adapter_of_row.get(), 4, gc.get(),
                                gx.get(), nullptr, nullptr) == FOURIERFT_CUDA_OK;
    check(ok, "queue", 1, 0);
    return host_shim::waits - before;
  };
  check(waits_of(4) > 0, "the first call makes the workspace", 0, 1);
  check(waits_of(4) == 0, "a steady call", 1, 0);
  check(waits_of(8) > 0, "a larger workspace", 0, 1);
  check(waits_of(8) == 0 && waits_of(4) == 0, "a steady call", 1, 0);
  fourierft_cuda_plan_destroy(plan);
}

// Checks the tests themselves: if any one barrier of a block is left out, at least one order of the threads gives another result.
void every_barrier_is_needed(const Problem& p) {
  const Runner runner(p);
  host_shim::max_barriers = 0;
  const Result right = runner.run(false);
  const int launches = host_shim::launches;
  runner.run(false);
  check(host_shim::launches == launches + 3, "one launch of forward, two of backward", host_shim::launches - launches, 3);
  for (int barrier = 0; barrier < host_shim::max_barriers; barrier++) {
    host_shim::settings.omitted_barrier = barrier;
    bool has_changed = false;
    for (const auto order : {host_shim::Order::ascending, host_shim::Order::descending, host_shim::Order::shuffled}) {
      host_shim::settings.order = order;
      has_changed = has_changed || !same(runner.run(false), right);
    }
    host_shim::settings.order = host_shim::Order::ascending;
    host_shim::settings.omitted_barrier = -1;
    char name[80];
    std::snprintf(name, sizeof name, "d1=%d d2=%d without barrier %d of %d", p.d1, p.d2, barrier, host_shim::max_barriers);
    check(has_changed, name, 0, 1);
  }
}
#endif

}  // namespace

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no CUDA device\n");
    return 77;
  }
  reject_invalid_arguments();
  unsigned seed = 1;
  for (int d = 1; d <= 24; d++) compare(make(d, 25 - d, 9, 2, 3, seed++));
  // even, odd, radices 5, 7, 11 ... 61, large primes and their doubles
  const int shapes[][2] = {{48, 128}, {120, 35}, {49, 77}, {97, 101}, {67, 134}, {121, 169}, {1, 64}, {64, 1}, {250, 61}, {86, 43}, {127, 64}};
  int tokens = 1;
  for (const auto& shape : shapes) compare(make(shape[0], shape[1], 60, 3, tokens++ % 7 + 1, seed++));
  compare(make(12, 10, 120, 1, 5, seed++));  // an entry at every position
  compare(make(768, 768, 1000, 2, 2, seed++));
  compare(make(1024, 1024, 300, 1, 1, seed++));
  compare(make(4096, 1024, 300, 2, 2, seed++));
  compare(make(4096, 11008, 200, 1, 2, seed++));
  compare(make(3072, 4099, 100, 1, 2, seed++));
  compare_in_chunks();
#ifdef HOST_SHIM
  reject_rows_too_large_for_shared_memory();
  queue_without_waiting();
  every_barrier_is_needed(make(96, 768, 200, 1, 2, seed++));
  every_barrier_is_needed(make(134, 250, 60, 1, 2, seed++));
#endif
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
