// Compares the CUDA kernels with the equations in double precision and with the CPU kernel. Compiled by nvcc, the program runs on a CUDA device;
// without a device it prints a line and exits with 77. Compiled by a host compiler with host-shim/ on its path, it runs on the CPU, in several
// orders of a block's threads, and also with each barrier left out in turn. With --small it leaves out the large shapes, for sanitizers.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "fourierft-cuda.h"
#include "fourierft/fourierft.h"

namespace {

int failures = 0, checks = 0;
int repetitions = 20;  // of a call whose results must be equal

void check(bool ok, const char* name, double found, double limit) {
  checks++;
  if (ok) return;
  failures++;
  std::printf("FAILED %s: %.3g, limit %.3g\n", name, found, limit);
}

// An array in device memory, at an address that is a multiple of 256 or, if it is `shifted`, one element after that.
template <class T>
class Device {
 public:
  explicit Device(const std::vector<T>& values, bool shifted = false) : size_(values.size()), shift_(shifted) {
    check(cudaMalloc(&memory_, (size_ + 1) * sizeof(T)) == cudaSuccess, "cudaMalloc", 1, 0);
    if (size_ > 0) cudaMemcpy(get(), values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  Device(const Device&) = delete;
  ~Device() { cudaFree(memory_); }
  T* get() const { return memory_ + shift_; }
  std::vector<T> values() const {
    std::vector<T> result(size_);
    if (size_ > 0) cudaMemcpy(result.data(), get(), size_ * sizeof(T), cudaMemcpyDeviceToHost);
    return result;
  }

 private:
  T* memory_ = nullptr;
  size_t size_, shift_;
};

struct KernelName {
  fourierft_cuda_kernel kernel;
  const char* name;
};
constexpr KernelName kKernels[] = {{FOURIERFT_CUDA_KERNEL_TOKEN, "token"}, {FOURIERFT_CUDA_KERNEL_TILE_1, "tile of 1"}, {FOURIERFT_CUDA_KERNEL_TILE_2, "tile of 2"}};

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

// 16 bits: y from zero, and the gradients.
struct HalfResult {
  std::vector<uint16_t> y, gx;
  std::vector<float> gc;
};

// How a call gets its arguments; the results are the same.
struct Way {
  bool by_row = false, rows_on_host = false, shifted = false;
};

class Runner {
 public:
  Runner(const Problem& p, fourierft_cuda_kernel kernel) : problem_(p), coefficients_(p.coefficients), scalings_(p.scalings), adapter_of_row_(p.adapter_of_row) {
    fourierft_plan_create(p.d1, p.d2, p.n, p.rows.data(), p.columns.data(), &host_);
    status_ = fourierft_cuda_plan_create(p.d1, p.d2, p.n, p.rows.data(), p.columns.data(), kernel, &plan_);
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
  Result run(Way way) const {
    const Problem& p = problem_;
    const Device<float> x(p.x, way.shifted), grad_y(p.grad_y, way.shifted), y(std::vector<float>(p.grad_y.size(), 1), way.shifted),
        gx(std::vector<float>(p.x.size(), 1), way.shifted), gc(std::vector<float>(p.coefficients.size(), 7));
    call(way, FOURIERFT_FLOAT32, x.get(), grad_y.get(), y.get(), gc.get(), gx.get());
    return {y.values(), gc.values(), gx.values()};
  }

  Result run_on_cpu(bool by_row) const {
    const Problem& p = problem_;
    Result result{std::vector<float>(p.grad_y.size(), 1), std::vector<float>(p.coefficients.size(), 7), std::vector<float>(p.x.size(), 1)};
    call_cpu(by_row, FOURIERFT_FLOAT32, p.x.data(), p.grad_y.data(), result.y.data(), result.gc.data(), result.gx.data());
    return result;
  }

  // x and grad_y: numbers of 16 bits. The outputs y and grad_x start as 0.
  HalfResult run_half(Way way, fourierft_dtype dtype, const std::vector<uint16_t>& x16, const std::vector<uint16_t>& grad_y16) const {
    const Device<uint16_t> x(x16, way.shifted), grad_y(grad_y16, way.shifted), y(std::vector<uint16_t>(grad_y16.size(), 0), way.shifted),
        gx(std::vector<uint16_t>(x16.size(), 0), way.shifted);
    const Device<float> gc(std::vector<float>(problem_.coefficients.size(), 7));
    call(way, dtype, x.get(), grad_y.get(), y.get(), gc.get(), gx.get());
    return {y.values(), gx.values(), gc.values()};
  }
  HalfResult run_half_on_cpu(bool by_row, fourierft_dtype dtype, const std::vector<uint16_t>& x, const std::vector<uint16_t>& grad_y) const {
    HalfResult result{std::vector<uint16_t>(grad_y.size(), 0), std::vector<uint16_t>(x.size(), 0), std::vector<float>(problem_.coefficients.size(), 7)};
    call_cpu(by_row, dtype, x.data(), grad_y.data(), result.y.data(), result.gc.data(), result.gx.data());
    return result;
  }

  // Three branches with the same x in one call, and one after another. The second branch has the gradient of y reversed, the third no scalings.
  void compare_branches(Way way, const char* name) const {
    const Problem& p = problem_;
    const Device<float> x(p.x), grad_y(p.grad_y), reversed(std::vector<float>(p.grad_y.rbegin(), p.grad_y.rend())),
        other(std::vector<float>(p.coefficients.rbegin(), p.coefficients.rend()));
    const auto run = [&](bool together) {
      std::vector<float> results;
      std::vector<std::unique_ptr<Device<float>>> ys, gcs;
      std::vector<fourierft_cuda_branch> branches;
      std::vector<fourierft_cuda_gradient> gradients;
      const Device<float> gx(std::vector<float>(p.x.size(), 1));
      for (int b = 0; b < 3; b++) {
        ys.push_back(std::make_unique<Device<float>>(std::vector<float>(p.grad_y.size(), 1)));
        gcs.push_back(std::make_unique<Device<float>>(std::vector<float>(p.coefficients.size(), 7)));
        const float* c = b == 1 ? other.get() : coefficients_.get();
        const float* scalings = b == 2 ? nullptr : scalings_.get();
        branches.push_back({c, scalings, ys.back()->get()});
        gradients.push_back({c, scalings, b == 1 ? reversed.get() : grad_y.get(), gcs.back()->get()});
      }
      const Device<char> workspace(std::vector<char>(fourierft_cuda_workspace(plan_, p.tokens, 3), '\xff'));
      const fourierft_cuda_rows rows = rows_of(way);
      for (int b = 0; b < 3; b += together ? 3 : 1) {
        const int count = together ? 3 : 1;
        check(fourierft_cuda_forward(plan_, &branches[b], count, p.adapters, FOURIERFT_FLOAT32, x.get(), p.tokens, way.by_row ? &rows : nullptr,
                                     stream_) == FOURIERFT_CUDA_OK, name, 1, 0);
        check(fourierft_cuda_backward(plan_, &gradients[b], count, p.adapters, FOURIERFT_FLOAT32, x.get(), p.tokens, way.by_row ? &rows : nullptr,
                                      gx.get(), workspace.get(), stream_) == FOURIERFT_CUDA_OK, name, 1, 0);
      }
      check(cudaStreamSynchronize(stream_) == cudaSuccess, name, 1, 0);
      for (const auto& outputs : {&ys, &gcs})
        for (const auto& output : *outputs) {
          const std::vector<float> values = output->values();
          results.insert(results.end(), values.begin(), values.end());
        }
      return std::make_pair(results, gx.values());
    };
    const auto together = run(true), apart = run(false);
    check(same(together.first, apart.first), name, 1, 0);
    // grad_x is the sum of three spectra or of three rows. Both lose as in `compare`. Here the loss is that of the largest number, which is less than the
    // norms that bound it there.
    float largest = 0;
    for (const float value : apart.second) largest = std::max(largest, std::fabs(value));
    for (size_t i = 0; i < apart.second.size(); i++) {
      const double error = std::fabs(together.second[i] - apart.second[i]);
      check(error <= 4 * std::ldexp(1, -24) * std::log2(2.0 * p.d1 * p.d2) * 4 * largest, name, error, largest);
    }
  }

 private:
  fourierft_cuda_rows rows_of(Way way) const {
    return {way.rows_on_host ? problem_.adapter_of_row.data() : adapter_of_row_.get(), problem_.tokens, way.rows_on_host};
  }

  void call(Way way, fourierft_dtype dtype, const void* x, const void* grad_y, void* y, float* gc, void* gx) const {
    const Problem& p = problem_;
    const Device<char> workspace(std::vector<char>(fourierft_cuda_workspace(plan_, p.tokens, 1), '\xff'));  // NaN
    const fourierft_cuda_rows rows = rows_of(way);
    const fourierft_cuda_branch branch{coefficients_.get(), scalings_.get(), y};
    const fourierft_cuda_gradient gradient{coefficients_.get(), scalings_.get(), grad_y, gc};
    check(fourierft_cuda_forward(plan_, &branch, 1, p.adapters, dtype, x, p.tokens, way.by_row ? &rows : nullptr, stream_) == FOURIERFT_CUDA_OK,
          "forward", 1, 0);
    check(fourierft_cuda_backward(plan_, &gradient, 1, p.adapters, dtype, x, p.tokens, way.by_row ? &rows : nullptr, gx, workspace.get(), stream_) ==
              FOURIERFT_CUDA_OK,
          "backward", 1, 0);
    check(cudaStreamSynchronize(stream_) == cudaSuccess, "kernels", 1, 0);
  }

  void call_cpu(bool by_row, fourierft_dtype dtype, const void* x, const void* grad_y, void* y, float* gc, void* gx) const {
    const Problem& p = problem_;
    const std::vector<int32_t> adapters_int32(p.adapter_of_row.begin(), p.adapter_of_row.end());
    const int32_t* adapter_of_row = by_row ? adapters_int32.data() : nullptr;
    fourierft_forward(host_, p.coefficients.data(), p.adapters, p.scalings.data(), dtype, x, p.tokens, adapter_of_row, y, nullptr);
    fourierft_backward(host_, p.coefficients.data(), p.adapters, p.scalings.data(), dtype, x, grad_y, p.tokens, adapter_of_row, gc, gx, nullptr);
  }

  const Problem& problem_;
  Device<float> coefficients_, scalings_;
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

std::vector<uint16_t> random_halves(fourierft_dtype dtype, size_t count, std::mt19937& random) {
  std::vector<uint16_t> result;
  // numbers of 2^-2 ... 2 of either sign
  for (size_t i = 0; i < count; i++) {
    const uint16_t sign = static_cast<uint16_t>((random() & 1) << 15), rest = static_cast<uint16_t>(random());
    result.push_back(dtype == FOURIERFT_BFLOAT16 ? sign | (0x3e80 + rest % 0x180) : sign | (0x3400 + rest % 0xc00));
  }
  return result;
}

// Two numbers in a format of 16 bits, each rounded once from within `limit` of the same number.
void compare_halves(fourierft_dtype dtype, const std::vector<uint16_t>& found, const std::vector<uint16_t>& expected, double limit, const char* name) {
  const double step = std::ldexp(1, dtype == FOURIERFT_BFLOAT16 ? -8 : -11);
  double worst = found.size() == expected.size() ? 0 : NAN;
  for (size_t i = 0; i < found.size() && i < expected.size(); i++) {
    const double a = from_half(dtype, found[i]), b = from_half(dtype, expected[i]);
    const double excess = std::fabs(a - b) - 2 * step * std::max(std::fabs(a), std::fabs(b));
    worst = excess > worst || excess != excess ? excess : worst;
  }
  check(worst <= limit, name, worst, limit);
}

// The results of the equations.
struct Expected {
  std::vector<double> y, gc, gx;
};

Expected evaluate(const Problem& p, bool by_row) {
  const double area = static_cast<double>(p.d1) * p.d2;
  const std::vector<Complex> unit1 = unit_circle(p.d1), unit2 = unit_circle(p.d2);
  Expected expected{std::vector<double>(p.grad_y.size(), 1), std::vector<double>(p.coefficients.size(), 0), std::vector<double>(p.x.size(), 1)};
  for (int t = 0; t < p.tokens; t++)
    for (int l = 0; l < p.n; l++) {
      double c = 0;
      for (int a = 0; a < p.adapters; a++)
        if (!by_row || p.adapter_of_row[t] == a) c += p.scalings[a] * static_cast<double>(p.coefficients[static_cast<size_t>(a) * p.n + l]) / area;
      if (by_row && p.adapter_of_row[t] < 0) continue;
      const Complex x = transform(unit2, p.x.data() + static_cast<size_t>(t) * p.d2, p.columns[l]),
                    g = transform(unit1, p.grad_y.data() + static_cast<size_t>(t) * p.d1, p.rows[l]);
      add_wave(unit1, p.rows[l], c * x, expected.y.data() + static_cast<size_t>(t) * p.d1);
      add_wave(unit2, p.columns[l], c * g, expected.gx.data() + static_cast<size_t>(t) * p.d2);
      for (int a = 0; a < p.adapters; a++)
        if (!by_row || p.adapter_of_row[t] == a) expected.gc[static_cast<size_t>(a) * p.n + l] += p.scalings[a] / area * (x * g).real();
    }
  return expected;
}

void compare(const Problem& p) {
  const double area = static_cast<double>(p.d1) * p.d2;
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
  const double rounding = std::ldexp(1, -24);
  const auto largest = [](const std::vector<double>& values) {
    double result = 0;
    for (double value : values) result = std::max(result, std::fabs(value));
    return result;
  };

  for (const bool by_row : {false, true}) {
    const Expected expected = evaluate(p, by_row);
    const double limit_y = loss * norm_w * norm_x + rounding * largest(expected.y), limit_gx = loss * norm_w * norm_g + rounding * largest(expected.gx),
                 limit_gc = loss * max_scaling / area * norm_outer + rounding * largest(expected.gc);
    for (const auto& [kernel, kernel_name] : kKernels) {
      char name[160];
      std::snprintf(name, sizeof name, "%s: d1=%d d2=%d n=%d adapters=%d tokens=%d", kernel_name, p.d1, p.d2, p.n, p.adapters, p.tokens);
      const Runner runner(p, kernel);
      if (kernel == FOURIERFT_CUDA_KERNEL_TILE_2 && runner.status() == FOURIERFT_CUDA_SHARED_MEMORY && p.d1 + p.d2 > 4096) continue;
      check(runner.status() == FOURIERFT_CUDA_OK, name, runner.status(), 0);
      if (runner.status() != FOURIERFT_CUDA_OK) continue;
      const Way way{by_row, false, false};
      const Result found = runner.run(way), cpu = runner.run_on_cpu(by_row);
      compare(found.y, expected.y, limit_y, name);
      compare(found.gx, expected.gx, limit_gx, name);
      compare(found.gc, expected.gc, limit_gc, name);
      // Both kernels are within these limits of the equations.
      compare(found.y, cpu.y, 2 * limit_y, name);
      compare(found.gx, cpu.gx, 2 * limit_gx, name);
      compare(found.gc, cpu.gc, 2 * limit_gc, name);
      if (by_row) {
        const Result on_host = runner.run({true, true, false});
        check(same(on_host.y, found.y) && same(on_host.gx, found.gx), name, 1, 0);
        // More rows than a launch takes are several launches, so the gradient is summed in another order.
        compare(on_host.gc, expected.gc, limit_gc, name);
        check(p.tokens > 512 || same(on_host.gc, found.gc), name, 1, 0);
      }
      if (p.tokens > 1000) continue;
      // Another alignment uses other instructions, so the bits can differ.
      const Result shifted = runner.run({by_row, false, true});
      compare(shifted.y, expected.y, limit_y, name);
      compare(shifted.gx, expected.gx, limit_gx, name);
      compare(shifted.gc, expected.gc, limit_gc, name);
#ifdef HOST_SHIM
      host_shim::settings.order = by_row ? host_shim::Order::shuffled : host_shim::Order::descending;
      check(same(runner.run(way), found), name, 1, 0);
      host_shim::settings.order = host_shim::Order::ascending;
#else
      for (int again = 0; again < repetitions; again++) check(same(runner.run(way), found), name, 1, 0);
#endif

      for (const fourierft_dtype dtype : {FOURIERFT_FLOAT16, FOURIERFT_BFLOAT16}) {
        std::mt19937 random(static_cast<unsigned>(p.d1 + p.d2));
        const std::vector<uint16_t> x16 = random_halves(dtype, p.x.size(), random), g16 = random_halves(dtype, p.grad_y.size(), random);
        const HalfResult expected16 = runner.run_half_on_cpu(by_row, dtype, x16, g16);
        // |x| < 2 sqrt(d2) bounds the norm of a token, |grad_y| < 2 sqrt(d1) that of its gradient. Subnormal numbers of float16 have steps of 2^-24.
        const double subnormal = std::ldexp(1, -24), x_norm = 2 * std::sqrt(p.d2), g_norm = 2 * std::sqrt(p.d1);
        const double limit_gc16 = 2 * (loss * max_scaling / area * p.tokens * x_norm * g_norm + rounding * largest(expected.gc));
        for (const bool is_shifted : {false, true}) {
          const HalfResult found16 = runner.run_half({by_row, false, is_shifted}, dtype, x16, g16);
          compare_halves(dtype, found16.y, expected16.y, 2 * loss * norm_w * x_norm + subnormal, name);
          compare_halves(dtype, found16.gx, expected16.gx, 2 * loss * norm_w * g_norm + subnormal, name);
          compare(found16.gc, expected16.gc, limit_gc16, name);
        }
      }
    }
  }
}

void compare_branches(const Problem& p) {
  for (const auto& [kernel, kernel_name] : kKernels) {
    char name[120];
    std::snprintf(name, sizeof name, "three branches, %s: d1=%d d2=%d tokens=%d", kernel_name, p.d1, p.d2, p.tokens);
    const Runner runner(p, kernel);
    check(runner.status() == FOURIERFT_CUDA_OK, name, runner.status(), 0);
    if (runner.status() != FOURIERFT_CUDA_OK) continue;
    for (const Way way : {Way{false, false, false}, Way{true, false, false}, Way{true, true, false}}) runner.compare_branches(way, name);
  }
}

void reject_invalid_arguments(fourierft_cuda_kernel kernel) {
  const Problem p = make(4, 6, 5, 2, 4, 1);
  fourierft_cuda_plan* plan = nullptr;
  const auto create = [&](uint32_t d1, uint32_t d2, uint32_t n) {
    return fourierft_cuda_plan_create(d1, d2, n, p.rows.data(), p.columns.data(), kernel, &plan);
  };
  check(fourierft_cuda_plan_create(4, 6, 5, p.rows.data(), p.columns.data(), kernel, nullptr) == FOURIERFT_CUDA_INVALID_ARGUMENT, "no plan", 1, 0);
  check(create(0, 6, 5) == FOURIERFT_CUDA_INVALID_SHAPE, "no rows", 1, 0);
  check(create(1, 6, 5) == FOURIERFT_CUDA_INVALID_ENTRY, "an entry outside", 1, 0);
  check(plan == nullptr && create(4, 6, 5) == FOURIERFT_CUDA_OK, "plan", 1, 0);
  Device<float> c(p.coefficients), scalings(p.scalings), x(p.x), y(std::vector<float>(16, 1)), gc(std::vector<float>(10, 7));
  const auto forward = [&](int32_t adapters, int64_t tokens, const fourierft_cuda_rows* rows, int dtype = 0) {
    const fourierft_cuda_branch branch{c.get(), scalings.get(), y.get()};
    return fourierft_cuda_forward(plan, &branch, 1, adapters, static_cast<fourierft_dtype>(dtype), x.get(), tokens, rows, nullptr);
  };
  Device<float> gx(std::vector<float>(24, 0)), grad_y(p.grad_y);
  Device<char> workspace(std::vector<char>(fourierft_cuda_workspace(plan, 4, 1), '\xff'));
  const auto backward = [&](int64_t tokens, const fourierft_cuda_rows* rows, float* to, void* memory) {
    const fourierft_cuda_gradient gradient{c.get(), scalings.get(), tokens > 0 ? grad_y.get() : nullptr, gc.get()};
    return fourierft_cuda_backward(plan, &gradient, 1, 2, FOURIERFT_FLOAT32, tokens > 0 ? x.get() : nullptr, tokens, rows, to, memory, nullptr);
  };
  const Device<int64_t> adapter_of_row(std::vector<int64_t>{1, -1});
  const fourierft_cuda_rows two_rows{adapter_of_row.get(), 2, 0}, three_rows{adapter_of_row.get(), 3, 0};
  fourierft_cuda_plan* unknown = nullptr;
  check(fourierft_cuda_plan_create(4, 6, 5, p.rows.data(), p.columns.data(), static_cast<fourierft_cuda_kernel>(5), &unknown) ==
            FOURIERFT_CUDA_INVALID_ARGUMENT, "an unknown kernel", 1, 0);
  check(forward(-1, 4, nullptr) == FOURIERFT_CUDA_INVALID_ARGUMENT, "a negative number of adapters", 1, 0);
  check(forward(2, -1, nullptr) == FOURIERFT_CUDA_INVALID_ARGUMENT, "a negative number of tokens", 1, 0);
  check(forward(2, 4, &three_rows) == FOURIERFT_CUDA_INVALID_ARGUMENT, "rows that do not divide the tokens", 1, 0);
  check(forward(2, 4, nullptr, 3) == FOURIERFT_CUDA_INVALID_ARGUMENT, "an unknown dtype", 1, 0);
  // In the host's memory an index out of range is rejected before anything is queued.
  for (const int64_t bad : {int64_t{2}, int64_t{-2}, INT64_MAX}) {
    const int64_t indices[] = {0, bad};
    const fourierft_cuda_rows rows{indices, 2, 1};
    check(forward(2, 4, &rows) == FOURIERFT_CUDA_INVALID_ROW && backward(4, &rows, gx.get(), workspace.get()) == FOURIERFT_CUDA_INVALID_ROW,
          "a row out of range", static_cast<double>(bad), 1);
    check(forward(0, 4, &rows) == FOURIERFT_CUDA_OK, "rows without adapters", 1, 0);
  }
  check(y.values() == std::vector<float>(16, 1), "y is unchanged", 1, 0);
  check(gx.values() == std::vector<float>(24, 0) && gc.values() == std::vector<float>(10, 7), "gradients are unchanged", 1, 0);
  check(forward(0, 4, nullptr) == FOURIERFT_CUDA_OK && forward(2, 0, nullptr) == FOURIERFT_CUDA_OK, "nothing to do", 1, 0);
  check(fourierft_cuda_forward(plan, nullptr, 0, 2, FOURIERFT_FLOAT32, x.get(), 4, nullptr, nullptr) == FOURIERFT_CUDA_OK, "no branch", 1, 0);
  check(y.values() == std::vector<float>(16, 1), "y is unchanged", 1, 0);

  // Two tokens for each row; the second two tokens have no adapter and do not change.
  check(forward(2, 4, &two_rows) == FOURIERFT_CUDA_OK, "rows of two tokens", 1, 0);
  const std::vector<float> after = y.values();
  for (int i = 0; i < 16; i++) check((after[i] != 1) == (i < 8), "rows of two tokens", i, 8);

  // In device memory an index out of range reads nothing and makes only its row NaN.
  const Device<int64_t> out_of_range(std::vector<int64_t>{0, 2, -2, 1});
  const fourierft_cuda_rows four_rows{out_of_range.get(), 4, 0};
  check(forward(2, 4, &four_rows) == FOURIERFT_CUDA_OK, "an adapter index out of range", 1, 0);
  check(backward(4, &four_rows, gx.get(), workspace.get()) == FOURIERFT_CUDA_OK, "an adapter index out of range", 1, 0);
  const std::vector<float> y_values = y.values(), gradient = gx.values();
  for (int t = 0; t < 4; t++) {
    for (int i = 0; i < 4; i++) check(std::isnan(y_values[4 * t + i]) == (t == 1 || t == 2), "an adapter index out of range", t, 1);
    for (int i = 0; i < 6; i++) check(std::isnan(gradient[6 * t + i]) == (t == 1 || t == 2), "an adapter index out of range", t, 1);
  }
  for (const float value : gc.values()) check(std::isfinite(value), "an adapter index out of range", value, 0);

  // Without tokens the gradient is zero; the gradient for x is optional.
  check(backward(0, nullptr, nullptr, nullptr) == FOURIERFT_CUDA_OK, "no tokens", 1, 0);
  check(gc.values() == std::vector<float>(10, 0), "no tokens", 1, 0);
  check(backward(4, nullptr, nullptr, workspace.get()) == FOURIERFT_CUDA_OK, "no gradient for x", 1, 0);
  for (const float value : gc.values()) check(value != 0, "no gradient for x", value, 0);

  // Without scalings the coefficients include alpha; without a workspace the library uses that of the stream.
  {
    std::vector<float> scaled = p.coefficients;
    for (int i = 0; i < 10; i++) scaled[i] *= i < 5 ? 4.f : 0.5f;  // exact
    Device<float> scaled_coefficients(scaled), powers(std::vector<float>{4.f, 0.5f});
    const auto results = [&](const Device<float>& from, const float* factors, void* memory) {
      Device<float> out(std::vector<float>(16, 1)), out_gc(std::vector<float>(10, 7)), out_gx(std::vector<float>(24, 0));
      const fourierft_cuda_branch branch{from.get(), factors, out.get()};
      const fourierft_cuda_gradient gradient_of{from.get(), factors, grad_y.get(), out_gc.get()};
      check(fourierft_cuda_forward(plan, &branch, 1, 2, FOURIERFT_FLOAT32, x.get(), 4, nullptr, nullptr) == FOURIERFT_CUDA_OK &&
                fourierft_cuda_backward(plan, &gradient_of, 1, 2, FOURIERFT_FLOAT32, x.get(), 4, nullptr, out_gx.get(), memory, nullptr) ==
                    FOURIERFT_CUDA_OK,
            "no scalings", 1, 0);
      return Result{out.values(), out_gc.values(), out_gx.values()};
    };
    const Result expected = results(scaled_coefficients, nullptr, workspace.get());
    check(same(results(scaled_coefficients, nullptr, nullptr), expected), "no workspace", 1, 0);
    Result with_scalings = results(c, powers.get(), nullptr);
    check(same(with_scalings.y, expected.y) && same(with_scalings.gx, expected.gx), "no scalings", 1, 0);
    for (int i = 0; i < 10; i++) check(with_scalings.gc[i] == expected.gc[i] * (i < 5 ? 4.f : 0.5f), "no scalings", with_scalings.gc[i], expected.gc[i]);
  }

  // Copies and zeros are queued with the kernels; a read waits for them.
  Device<float> copy(std::vector<float>(24, 7));
  check(fourierft_cuda_copy(copy.get(), x.get(), 20 * sizeof(float), nullptr) == FOURIERFT_CUDA_OK, "copy", 1, 0);
  check(fourierft_cuda_zero(copy.get() + 22, sizeof(float), nullptr) == FOURIERFT_CUDA_OK, "zero", 1, 0);
  std::vector<float> copied(p.x.begin(), p.x.begin() + 20), read(24, 0);
  copied.insert(copied.end(), {7, 7, 0, 7});
  check(same(copy.values(), copied), "copy", 1, 0);
  check(fourierft_cuda_read(read.data(), copy.get(), 24 * sizeof(float), 0) == FOURIERFT_CUDA_OK && same(read, copied), "read", 1, 0);
  check(fourierft_cuda_copy(nullptr, x.get(), 4, nullptr) == FOURIERFT_CUDA_INVALID_ARGUMENT &&
            fourierft_cuda_zero(nullptr, 4, nullptr) == FOURIERFT_CUDA_INVALID_ARGUMENT &&
            fourierft_cuda_read(nullptr, x.get(), 4, 0) == FOURIERFT_CUDA_INVALID_ARGUMENT && fourierft_cuda_zero(nullptr, 0, nullptr) == FOURIERFT_CUDA_OK,
        "copy nothing", 1, 0);
  check(fourierft_cuda_read(read.data(), copy.get(), 4, 1000) == FOURIERFT_CUDA_FAILED, "read from a device that does not exist", 1, 0);

  // NaN and infinity stay in their token.
  for (const float bad : {NAN, INFINITY}) {
    std::vector<float> values = p.x;
    values[1] = bad;
    Device<float> mixed(values), out(std::vector<float>(16, 0));
    const fourierft_cuda_branch branch{c.get(), scalings.get(), out.get()};
    fourierft_cuda_forward(plan, &branch, 1, 2, FOURIERFT_FLOAT32, mixed.get(), 4, nullptr, nullptr);
    const std::vector<float> found = out.values();
    for (int i = 0; i < 16; i++) check(std::isfinite(found[i]) == (i >= 4), "NaN stays in its token", i, 4);
  }
  fourierft_cuda_plan_destroy(plan);
}

// If there are more tokens than the workspace holds, the gradient is the sum over chunks.
void compare_in_chunks() { compare(make(6, 4, 7, 2, 2048 + 37, 5)); }

// More rows than a launch takes as arguments, of one and of three tokens.
void compare_many_rows() {
  for (const int tokens_per_row : {1, 3}) {
    const int count = 512 + 5;
    Problem p = make(10, 12, 9, 5, count * tokens_per_row, 11);
    std::vector<int64_t> rows(p.adapter_of_row.begin(), p.adapter_of_row.begin() + count);
    Problem each = p;  // a row for each token
    for (int t = 0; t < p.tokens; t++) each.adapter_of_row[static_cast<size_t>(t)] = rows[static_cast<size_t>(t / tokens_per_row)];
    for (const auto& [kernel, name] : kKernels) {
      const Runner runner(each, kernel);
      const Result expected = runner.run({true, false, false}), on_host = runner.run({true, true, false});
      check(same(expected.y, on_host.y) && same(expected.gx, on_host.gx), name, 1, 0);
      // The gradients are sums over other chunks.
      const double limit = 4 * std::ldexp(1, -24) * std::log2(each.tokens);
      float largest = 0;
      for (const float value : expected.gc) largest = std::max(largest, std::fabs(value));
      compare(on_host.gc, expected.gc, limit * largest * std::sqrt(each.tokens), name);
      fourierft_cuda_plan* plan = nullptr;
      check(fourierft_cuda_plan_create(p.d1, p.d2, p.n, p.rows.data(), p.columns.data(), kernel, &plan) == FOURIERFT_CUDA_OK, name, 1, 0);
      const Device<float> c(p.coefficients), scalings(p.scalings), x(p.x), y(std::vector<float>(p.grad_y.size(), 1));
      const fourierft_cuda_branch branch{c.get(), scalings.get(), y.get()};
      const fourierft_cuda_rows long_rows{rows.data(), count, 1};
      check(fourierft_cuda_forward(plan, &branch, 1, p.adapters, FOURIERFT_FLOAT32, x.get(), p.tokens, &long_rows, nullptr) == FOURIERFT_CUDA_OK, name, 1, 0);
      check(same(y.values(), expected.y), name, 1, 0);
      fourierft_cuda_plan_destroy(plan);
    }
  }
}

#ifdef HOST_SHIM
// A device with less shared memory rejects some shapes that an H100 accepts.
void reject_rows_too_large_for_shared_memory() {
  const Problem p = make(14336, 4096, 1000, 1, 0, 9);
  host_shim::settings.shared_memory = 65536;  // sm_75
  fourierft_cuda_plan* plan = nullptr;
  const auto create = [&](fourierft_cuda_kernel kernel) {
    return fourierft_cuda_plan_create(p.d1, p.d2, p.n, p.rows.data(), p.columns.data(), kernel, &plan);
  };
  for (const auto kernel : {FOURIERFT_CUDA_KERNEL_TOKEN, FOURIERFT_CUDA_KERNEL_TILE})
    check(create(kernel) == FOURIERFT_CUDA_SHARED_MEMORY && plan == nullptr, "65536 bytes", 1, 0);
  // Enough for one token, but not for two.
  host_shim::settings.shared_memory = 131072;
  check(create(FOURIERFT_CUDA_KERNEL_TILE_2) == FOURIERFT_CUDA_SHARED_MEMORY && plan == nullptr, "131072 bytes", 1, 0);
  check(create(FOURIERFT_CUDA_KERNEL_TILE) == FOURIERFT_CUDA_OK, "131072 bytes", 1, 0);
  fourierft_cuda_plan_destroy(plan);
  host_shim::settings.shared_memory = 232448;
  check(create(FOURIERFT_CUDA_KERNEL_TILE_2) == FOURIERFT_CUDA_OK, "232448 bytes", 1, 0);
  fourierft_cuda_plan_destroy(plan);
}

// After the first calls no call allocates or waits. A gradient for more tokens allocates a larger workspace once.
void queue_without_waiting() {
  const Problem p = make(12, 10, 20, 2, 8, 3);
  fourierft_cuda_plan* plan = nullptr;
  check(fourierft_cuda_plan_create(p.d1, p.d2, p.n, p.rows.data(), p.columns.data(), FOURIERFT_CUDA_KERNEL_DEFAULT, &plan) == FOURIERFT_CUDA_OK, "plan",
        1, 0);
  Device<float> c(p.coefficients), x(p.x), grad_y(p.grad_y), y(std::vector<float>(8 * 12, 0)), gc(std::vector<float>(40, 0)),
      gx(std::vector<float>(80, 0));
  const int64_t adapter_of_row[] = {0, 1, -1, 1};
  const fourierft_cuda_rows rows{adapter_of_row, 4, 1};
  const auto waits_of = [&](int64_t tokens) {
    const int before = host_shim::waits;
    const fourierft_cuda_branch branch{c.get(), nullptr, y.get()};
    const fourierft_cuda_gradient gradient{c.get(), nullptr, grad_y.get(), gc.get()};
    const bool ok = fourierft_cuda_copy(y.get(), grad_y.get(), tokens * 12 * sizeof(float), nullptr) == FOURIERFT_CUDA_OK &&
                    fourierft_cuda_zero(gx.get(), tokens * 10 * sizeof(float), nullptr) == FOURIERFT_CUDA_OK &&
                    fourierft_cuda_forward(plan, &branch, 1, 2, FOURIERFT_FLOAT32, x.get(), tokens, &rows, nullptr) == FOURIERFT_CUDA_OK &&
                    fourierft_cuda_backward(plan, &gradient, 1, 2, FOURIERFT_FLOAT32, x.get(), tokens, &rows, gx.get(), nullptr, nullptr) ==
                        FOURIERFT_CUDA_OK;
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
  for (const auto& [kernel, kernel_name] : kKernels) {
    const Runner runner(p, kernel);
    host_shim::max_barriers = 0;
    const Result right = runner.run({});
    const int launches = host_shim::launches;
    runner.run({});
    check(host_shim::launches == launches + 3, "one launch of forward, two of backward", host_shim::launches - launches, 3);
    for (int barrier = 0; barrier < host_shim::max_barriers; barrier++) {
      host_shim::settings.omitted_barrier = barrier;
      bool has_changed = false;
      for (const auto order : {host_shim::Order::ascending, host_shim::Order::descending, host_shim::Order::shuffled}) {
        host_shim::settings.order = order;
        has_changed = has_changed || !same(runner.run({}), right);
      }
      host_shim::settings.order = host_shim::Order::ascending;
      host_shim::settings.omitted_barrier = -1;
      char name[80];
      std::snprintf(name, sizeof name, "%s: d1=%d d2=%d without barrier %d of %d", kernel_name, p.d1, p.d2, barrier, host_shim::max_barriers);
      check(has_changed, name, 0, 1);
    }
  }
}

// Branches in every order of the threads.
void compare_branches_in_all_orders(const Problem& p) {
  for (const auto order : {host_shim::Order::descending, host_shim::Order::shuffled}) {
    host_shim::settings.order = order;
    compare_branches(p);
  }
  host_shim::settings.order = host_shim::Order::ascending;
}

// The tile kernel has one token in each block as long as all blocks run at once: four on each multiprocessor.
void choose_the_number_of_tokens() {
  host_shim::settings.multiprocessors = 2;
  for (const int tokens : {8, 9}) {
    const Problem p = make(48, 36, 60, 1, tokens, 7);
    const Result one = Runner(p, FOURIERFT_CUDA_KERNEL_TILE_1).run({}), two = Runner(p, FOURIERFT_CUDA_KERNEL_TILE_2).run({}),
                 chosen = Runner(p, FOURIERFT_CUDA_KERNEL_TILE).run({});
    // The gradient of two tokens is summed in another order.
    check(!same(one.gc, two.gc), "one and two tokens differ", tokens, 0);
    check(same(chosen, tokens == 8 ? one : two), "the number of tokens in a block", tokens, 8);
  }
  host_shim::settings.multiprocessors = 132;
}

void count_launches() {
  const Problem p = make(12, 10, 20, 2, 8, 3);
  fourierft_cuda_plan* plan = nullptr;
  check(fourierft_cuda_plan_create(p.d1, p.d2, p.n, p.rows.data(), p.columns.data(), FOURIERFT_CUDA_KERNEL_TILE, &plan) == FOURIERFT_CUDA_OK, "plan", 1, 0);
  const Device<float> c(p.coefficients), x(p.x), y(std::vector<float>(8 * 12, 0));
  const std::vector<fourierft_cuda_branch> branches(5, {c.get(), nullptr, y.get()});
  for (const int count : {1, 3, 4, 5}) {
    const int before = host_shim::launches;
    check(fourierft_cuda_forward(plan, branches.data(), count, 2, FOURIERFT_FLOAT32, x.get(), 8, nullptr, nullptr) == FOURIERFT_CUDA_OK, "branches", count, 0);
    check(host_shim::launches - before == (count > 4 ? 2 : 1), "up to four branches are one launch", host_shim::launches - before, 1);
  }
  fourierft_cuda_plan_destroy(plan);
}
#endif

}  // namespace

int main(int count, char** arguments) {
  const bool is_small = count > 1 && std::strcmp(arguments[1], "--small") == 0;
  if (is_small) repetitions = 2;
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no CUDA device\n");
    return 77;
  }
  for (const auto& [kernel, name] : kKernels) reject_invalid_arguments(kernel);
  unsigned seed = 1;
  for (int d = 1; d <= 24; d += is_small ? 7 : 1) compare(make(d, 25 - d, 9, 2, 3, seed++));
  // even, odd, radices 5, 7, 11 ... 61, large primes and their doubles
  const int shapes[][2] = {{48, 128}, {120, 35}, {49, 77}, {97, 101}, {67, 134}, {121, 169}, {1, 64}, {64, 1}, {250, 61}, {86, 43}, {127, 64}};
  int tokens = 1;
  for (const auto& shape : shapes) {
    compare(make(shape[0], shape[1], 60, 3, tokens++ % 7 + 1, seed++));
    if (is_small && tokens > 4) break;
  }
  for (int d = 2; d <= 34; d += is_small ? 16 : 4) compare_branches(make(d, 70 - 2 * d, 12, 2, 3, seed++));
  if (!is_small) {
    compare(make(12, 10, 120, 1, 5, seed++));  // an entry at every position
    compare(make(96, 64, 5000, 1, 3, seed++));  // more coefficients than are kept in shared memory
    compare(make(768, 768, 1000, 2, 3, seed++));
    compare(make(1024, 1024, 300, 1, 1, seed++));
    compare(make(4096, 1024, 300, 2, 2, seed++));
    compare(make(4096, 11008, 200, 1, 2, seed++));
    compare(make(3072, 4099, 100, 1, 2, seed++));
    compare(make(8192, 5120, 100, 1, 2, seed++));
    compare_branches(make(768, 768, 1000, 2, 5, seed++));
    compare_in_chunks();
    compare_many_rows();
  }
#ifdef HOST_SHIM
  reject_rows_too_large_for_shared_memory();
  queue_without_waiting();
  choose_the_number_of_tokens();
  count_launches();
  compare_branches_in_all_orders(make(96, 256, 40, 2, 3, seed++));
  every_barrier_is_needed(make(96, 768, 200, 1, 2, seed++));
  every_barrier_is_needed(make(256, 128, 200, 1, 3, seed++));
  every_barrier_is_needed(make(134, 250, 60, 1, 2, seed++));
#endif
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
