// Compares the kernel with the equations in double precision: shapes of every kind, all instruction sets (FOURIERFT_INSTRUCTIONS) and number
// formats, summed adapters and an adapter for each row, with and without threads.
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "fourierft/fourierft.h"

namespace {

int failures = 0, checks = 0;

void check(bool ok, const char* name, double found, double limit) {
  checks++;
  if (ok) return;
  failures++;
  std::printf("FAILED %s: %.3g, limit %.3g\n", name, found, limit);
}

struct Problem {
  int d1, d2, n, adapters, tokens;
  std::vector<uint32_t> rows, columns;
  std::vector<float> coefficients, scalings, x, grad_y;
  std::vector<int32_t> adapter_of_row;
};

Problem make(int d1, int d2, int n, int adapters, int tokens, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Problem p{d1, d2, n, adapters, tokens, {}, {}, {}, {}, {}, {}, {}};
  std::set<uint64_t> used;
  // The first entries: zero frequency, both Nyquist frequencies, a conjugate pair
  const uint64_t corners[][2] = {{0, 0}, {static_cast<uint64_t>(d1) / 2, static_cast<uint64_t>(d2) / 2}, {1, 1},
                                 {static_cast<uint64_t>(d1) - 1, static_cast<uint64_t>(d2) - 1}};
  for (const auto& corner : corners)
    if (static_cast<int>(used.size()) < n && corner[0] < static_cast<uint64_t>(d1) && corner[1] < static_cast<uint64_t>(d2) &&
        used.insert(corner[0] * d2 + corner[1]).second)
      p.rows.push_back(corner[0]), p.columns.push_back(corner[1]);
  while (static_cast<int>(used.size()) < n) {
    const uint64_t v = random() % (static_cast<uint64_t>(d1) * d2);
    if (used.insert(v).second) p.rows.push_back(v / d2), p.columns.push_back(v % d2);
  }
  for (int i = 0; i < n * adapters; i++) p.coefficients.push_back(normal(random));
  for (int a = 0; a < adapters; a++) p.scalings.push_back(100.f + a);
  for (int i = 0; i < tokens * d2; i++) p.x.push_back(normal(random));
  for (int i = 0; i < tokens * d1; i++) p.grad_y.push_back(normal(random));
  for (int t = 0; t < tokens; t++) p.adapter_of_row.push_back(static_cast<int>(random() % (adapters + 1)) - 1);
  return p;
}

// cos(2 pi (q j_l / d1 + r k_l / d2)) of one entry, by the addition theorem from one table for each axis: computing a
// cosine for each number of dW would take nearly all the time of these tests.
class Wave {
 public:
  Wave(const Problem& p, int l) : rows_(unit_roots(p.d1, p.rows[l])), columns_(unit_roots(p.d2, p.columns[l])) {}
  double operator()(int q, int r) const { return (rows_[q] * columns_[r]).real(); }

 private:
  static std::vector<std::complex<double>> unit_roots(int d, uint32_t frequency) {
    std::vector<std::complex<double>> result(d);
    for (int i = 0; i < d; i++)
      result[i] = std::polar(1.0, 2 * 3.14159265358979323846 * static_cast<double>(static_cast<int64_t>(i) * frequency % d) / d);
    return result;
  }
  std::vector<std::complex<double>> rows_, columns_;
};

// dW of one adapter, from the equation.
std::vector<double> reference_delta(const Problem& p, int adapter) {
  std::vector<double> delta(static_cast<size_t>(p.d1) * p.d2, 0);
  for (int l = 0; l < p.n; l++) {
    const double c = p.scalings[adapter] * static_cast<double>(p.coefficients[adapter * p.n + l]) / (static_cast<double>(p.d1) * p.d2);
    const Wave wave(p, l);
    for (int q = 0; q < p.d1; q++)
      for (int r = 0; r < p.d2; r++) delta[static_cast<size_t>(q) * p.d2 + r] += c * wave(q, r);
  }
  return delta;
}

double largest(const std::vector<double>& values) {
  double result = 0;
  for (double value : values) result = std::max(result, std::fabs(value));
  return result;
}

template <class Found>
double difference(const Found& found, const std::vector<double>& expected) {
  double result = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    const double error = std::fabs(found[i] - expected[i]);
    result = error > result || error != error ? error : result;
  }
  return result;
}

void parallel(void*, int count, void (*body)(void*, int), void* argument) {
  std::vector<std::thread> threads;
  for (int i = count - 1; i >= 0; i--) threads.emplace_back([=] { body(argument, i); });
  for (std::thread& thread : threads) thread.join();
}

void compare(const Problem& p) {
  char name[160];
  std::snprintf(name, sizeof name, "d1=%d d2=%d n=%d adapters=%d tokens=%d", p.d1, p.d2, p.n, p.adapters, p.tokens);
  fourierft_plan* plan = nullptr;
  check(fourierft_plan_create(p.d1, p.d2, p.n, p.rows.data(), p.columns.data(), &plan) == FOURIERFT_OK, name, 1, 0);
  std::vector<std::vector<double>> deltas;
  for (int a = 0; a < p.adapters; a++) deltas.push_back(reference_delta(p, a));
  std::vector<double> sum(deltas[0].size(), 0);
  for (const auto& delta : deltas)
    for (size_t i = 0; i < sum.size(); i++) sum[i] += delta[i];

  // The conformance suite allows 1e-5 of the largest value. A few values can all be small by chance, as sums of large terms that cancel.
  // A transform of length d in float32 loses about 2^-24 log2 d of the norm of its input. So the limit is the larger of 1e-5 and four such
  // losses of the product of a matrix and a token: two transforms, the sparse step and the addition.
  const double loss = 4 * std::ldexp(1, -24) * std::max(1.0, std::log2(static_cast<double>(p.d1) * p.d2));
  const auto norm = [](const auto* values, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += static_cast<double>(values[i]) * values[i];
    return std::sqrt(sum);
  };
  double norm_w = norm(sum.data(), sum.size()), norm_x = 0, norm_g = 0, norm_outer = 0;
  for (const auto& delta : deltas) norm_w = std::max(norm_w, norm(delta.data(), delta.size()));
  for (int t = 0; t < p.tokens; t++) {
    const double x = norm(p.x.data() + static_cast<size_t>(t) * p.d2, p.d2), g = norm(p.grad_y.data() + static_cast<size_t>(t) * p.d1, p.d1);
    norm_x = std::max(norm_x, x);
    norm_g = std::max(norm_g, g);
    norm_outer += x * g;
  }
  const double factor = *std::max_element(p.scalings.begin(), p.scalings.end()) / (static_cast<double>(p.d1) * p.d2);
  const fourierft_runner runner{parallel, nullptr};

  std::vector<float> delta(sum.size());
  fourierft_delta(plan, p.coefficients.data(), p.adapters, p.scalings.data(), delta.data(), nullptr);
  const double delta_limit = 2e-6 * largest(sum) * std::max(1.0, std::log2(static_cast<double>(p.d1) * p.d2));
  check(difference(delta, sum) <= delta_limit, name, difference(delta, sum), delta_limit);

  for (const bool by_row : {false, true}) {
    const int32_t* adapter_of_row = by_row ? p.adapter_of_row.data() : nullptr;
    std::vector<double> y(static_cast<size_t>(p.tokens) * p.d1, 1), gx(static_cast<size_t>(p.tokens) * p.d2, 1), gc(p.adapters * p.n, 0);
    std::vector<std::vector<double>> outer(p.adapters, std::vector<double>(sum.size(), 0));  // dL/dW of each adapter
    for (int t = 0; t < p.tokens; t++) {
      if (by_row && adapter_of_row[t] < 0) continue;
      const std::vector<double>& w = by_row ? deltas[adapter_of_row[t]] : sum;
      for (int q = 0; q < p.d1; q++)
        for (int r = 0; r < p.d2; r++) {
          const size_t at = static_cast<size_t>(q) * p.d2 + r;
          y[t * p.d1 + q] += w[at] * p.x[t * p.d2 + r];
          gx[t * p.d2 + r] += w[at] * p.grad_y[t * p.d1 + q];
          const double product = static_cast<double>(p.x[t * p.d2 + r]) * p.grad_y[t * p.d1 + q];
          for (int a = 0; a < p.adapters; a++)
            if (!by_row || adapter_of_row[t] == a) outer[a][at] += product;
        }
    }
    for (int a = 0; a < p.adapters; a++)
      for (int l = 0; l < p.n; l++) {
        const Wave wave(p, l);
        double total = 0;
        for (int q = 0; q < p.d1; q++)
          for (int r = 0; r < p.d2; r++) total += outer[a][static_cast<size_t>(q) * p.d2 + r] * wave(q, r);
        gc[a * p.n + l] = p.scalings[a] * total / (static_cast<double>(p.d1) * p.d2);
      }

    std::vector<float> found_y(y.size(), 1), found_gx(gx.size(), 1), found_gc(gc.size(), 7);
    fourierft_forward(plan, p.coefficients.data(), p.adapters, p.scalings.data(), FOURIERFT_FLOAT32, p.x.data(), p.tokens, adapter_of_row,
                      found_y.data(), nullptr);
    fourierft_backward(plan, p.coefficients.data(), p.adapters, p.scalings.data(), FOURIERFT_FLOAT32, p.x.data(), p.grad_y.data(), p.tokens,
                       adapter_of_row, found_gc.data(), found_gx.data(), nullptr);
    const double limit_y = std::max(1e-5 * largest(y), loss * norm_w * norm_x);
    const double limit_gx = std::max(1e-5 * largest(gx), loss * norm_w * norm_g);
    const double limit_gc = std::max(1e-5 * largest(gc), loss * factor * norm_outer);
    check(difference(found_y, y) <= limit_y, name, difference(found_y, y), limit_y);
    check(difference(found_gx, gx) <= limit_gx, name, difference(found_gx, gx), limit_gx);
    check(difference(found_gc, gc) <= limit_gc, name, difference(found_gc, gc), limit_gc);

    // The results do not depend on the caller's threads, bit for bit.
    std::vector<float> threaded_y(y.size(), 1), threaded_gx(gx.size(), 1), threaded_gc(gc.size(), 7);
    fourierft_forward(plan, p.coefficients.data(), p.adapters, p.scalings.data(), FOURIERFT_FLOAT32, p.x.data(), p.tokens, adapter_of_row,
                      threaded_y.data(), &runner);
    fourierft_backward(plan, p.coefficients.data(), p.adapters, p.scalings.data(), FOURIERFT_FLOAT32, p.x.data(), p.grad_y.data(), p.tokens,
                       adapter_of_row, threaded_gc.data(), threaded_gx.data(), &runner);
    check(threaded_y == found_y && threaded_gx == found_gx && threaded_gc == found_gc, name, 1, 0);

    // float16 and bfloat16: the float32 result of the rounded input, rounded once.
    for (const fourierft_dtype dtype : {FOURIERFT_FLOAT16, FOURIERFT_BFLOAT16}) {
      const bool is_bfloat16 = dtype == FOURIERFT_BFLOAT16;
      const double step = is_bfloat16 ? std::ldexp(1, -8) : std::ldexp(1, -11);
      const auto to_half = [&](float value) -> uint16_t {
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        if (is_bfloat16) return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        if (std::fabs(value) < 6.2e-5f) return 0;
        const uint32_t rest = bits & 0x7fffffff;
        return static_cast<uint16_t>((bits >> 16 & 0x8000) | (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13);
      };
      const auto from_half = [&](uint16_t half) -> float {
        if (is_bfloat16) {
          const uint32_t bits = static_cast<uint32_t>(half) << 16;
          float value;
          std::memcpy(&value, &bits, 4);
          return value;
        }
        const int exponent = half >> 10 & 31, mantissa = half & 1023;
        const float magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
        return half & 0x8000 ? -magnitude : magnitude;
      };
      std::vector<uint16_t> half_x, half_y(y.size(), to_half(0));
      std::vector<float> rounded_x, plain_y(y.size(), 0);
      for (float value : p.x) half_x.push_back(to_half(value)), rounded_x.push_back(from_half(half_x.back()));
      fourierft_forward(plan, p.coefficients.data(), p.adapters, p.scalings.data(), FOURIERFT_FLOAT32, rounded_x.data(), p.tokens, adapter_of_row,
                        plain_y.data(), nullptr);
      fourierft_forward(plan, p.coefficients.data(), p.adapters, p.scalings.data(), dtype, half_x.data(), p.tokens, adapter_of_row, half_y.data(),
                        nullptr);
      double worst = 0;
      for (size_t i = 0; i < plain_y.size(); i++)
        worst = std::max(worst, std::fabs(from_half(half_y[i]) - plain_y[i]) - step * std::fabs(plain_y[i]));
      check(worst <= 3.1e-8, name, worst, 3.1e-8);  // half a subnormal step of float16
    }
  }
  fourierft_plan_destroy(plan);
}

// dW of 16 MiB or more is written without using the caches: rows can start anywhere in a cache line, and nothing outside them changes.
void compare_large_delta(int d1, int d2, int shift, unsigned seed) {
  const Problem p = make(d1, d2, 2, 1, 0, seed);
  char name[160];
  std::snprintf(name, sizeof name, "large dW d1=%d d2=%d shift=%d", d1, d2, shift);
  const std::vector<double> expected = reference_delta(p, 0);
  fourierft_plan* plan = nullptr;
  check(fourierft_plan_create(d1, d2, p.n, p.rows.data(), p.columns.data(), &plan) == FOURIERFT_OK, name, 1, 0);
  std::vector<float> found(expected.size() + 32, 7);
  fourierft_delta(plan, p.coefficients.data(), 1, p.scalings.data(), found.data() + shift, nullptr);
  const double limit = 2e-6 * largest(expected) * std::log2(static_cast<double>(d1) * d2);
  check(difference(found.data() + shift, expected) <= limit, name, difference(found.data() + shift, expected), limit);
  check(std::all_of(found.begin(), found.begin() + shift, [](float value) { return value == 7; }) &&
            std::all_of(found.end() - 32 + shift, found.end(), [](float value) { return value == 7; }),
        name, 1, 0);
  fourierft_plan_destroy(plan);
}

void reject_invalid_arguments() {
  fourierft_plan* plan = nullptr;
  const uint32_t rows[] = {0, 3}, columns[] = {1, 2};
  check(fourierft_plan_create(0, 4, 1, rows, columns, &plan) == FOURIERFT_INVALID_SHAPE, "d1 = 0", 1, 0);
  check(fourierft_plan_create(1, 1, 2, rows, columns, &plan) == FOURIERFT_INVALID_SHAPE, "n > d1 d2", 1, 0);
  check(fourierft_plan_create(3, 4, 2, rows, columns, &plan) == FOURIERFT_INVALID_ENTRY, "row out of range", 1, 0);
  check(fourierft_plan_create(3, 4, 1, nullptr, columns, &plan) == FOURIERFT_INVALID_ARGUMENT, "null", 1, 0);
  check(plan == nullptr, "no plan is made", 1, 0);
  check(fourierft_plan_create(4, 4, 2, rows, columns, &plan) == FOURIERFT_OK, "plan", 1, 0);
  const float c[] = {1, 2}, scaling = 1, x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  float y[8] = {0};
  const int32_t out_of_range[] = {0, 1};
  check(fourierft_forward(plan, c, 1, &scaling, FOURIERFT_FLOAT32, x, 2, out_of_range, y, nullptr) == FOURIERFT_INVALID_ARGUMENT,
        "an adapter index out of range", 1, 0);
  check(fourierft_forward(plan, c, 1, &scaling, FOURIERFT_FLOAT32, x, -1, nullptr, y, nullptr) == FOURIERFT_INVALID_ARGUMENT,
        "a negative number of tokens", 1, 0);
  check(std::all_of(y, y + 8, [](float value) { return value == 0; }), "y is unchanged", 1, 0);
  // NaN and infinity stay in their token; a token without an adapter is unchanged.
  for (const float bad : {NAN, INFINITY}) {
    float mixed[8] = {1, bad, 3, 4, 5, 6, 7, 8}, out[8] = {0};
    fourierft_forward(plan, c, 1, &scaling, FOURIERFT_FLOAT32, mixed, 2, nullptr, out, nullptr);
    check(!std::isfinite(out[0]) && std::isfinite(out[4]), "NaN stays in its token", 1, 0);
    const int32_t none[] = {-1, 0};
    float kept[8] = {0};
    fourierft_forward(plan, c, 1, &scaling, FOURIERFT_FLOAT32, mixed, 2, none, kept, nullptr);
    check(kept[0] == 0 && kept[3] == 0 && std::isfinite(kept[4]), "a token without an adapter", 1, 0);
  }
  fourierft_plan_destroy(plan);
}

}  // namespace

int main() {
  const char* requested = std::getenv("FOURIERFT_INSTRUCTIONS");
  std::printf("instructions: %s\n", fourierft_instructions());
  if (requested != nullptr && std::strcmp(requested, fourierft_instructions()) != 0) {
    std::printf("skipped: this processor has no %s\n", requested);
    return 77;
  }
  reject_invalid_arguments();
  unsigned seed = 1;
  for (int d = 1; d <= 40; d++) compare(make(d, 41 - d, std::min(d * (41 - d), 9), 2, 3, seed++));
  const int shapes[][2] = {{48, 48}, {64, 128}, {120, 35}, {49, 77}, {97, 101}, {67, 71}, {134, 128}, {127, 64}, {86, 43}, {121, 169}, {1, 64}, {64, 1}, {256, 250},
                           // An eighth of the size is odd, a large prime, or 1.
                           {88, 72}, {536, 24}, {8, 16}};
  for (const auto& shape : shapes)
    for (const int tokens : {1, 2, 7, 8, 9, 17, 40}) compare(make(shape[0], shape[1], std::min(shape[0] * shape[1], 60), 3, tokens, seed++));
  compare(make(12, 10, 120, 1, 5, seed++));    // an entry at every position
  compare(make(96, 80, 30, 2, 300, seed++));   // several parts of tokens
  compare_large_delta(2048, 2048, 0, seed++);
  compare_large_delta(1039, 4080, 3, seed++);  // odd: there is no row d1/2; d2 is not a power of two
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
