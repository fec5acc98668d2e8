// The C functions check their arguments, choose the instructions and split the tokens into parts for the caller's threads. The parts depend
// only on the number of tokens, and their sums are added in order, so results do not depend on the number of threads.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <exception>
#include <new>
#include <string_view>
#include <vector>

#include "fourierft/fourierft.h"
#include "kernel.h"
#include "processor.h"

namespace {

using fourierft::Kernel;
using fourierft::Plan;
using fourierft::Tokens;

const Kernel& kernel() {
  static const Kernel* const best = [] {
#if defined(__x86_64__)
    const char* requested = std::getenv("FOURIERFT_INSTRUCTIONS");
    const auto is_allowed = [&](const Kernel& k) { return requested == nullptr || std::string_view(requested) == k.instructions; };
    const fourierft::Processor has = fourierft::processor();
    if (has.avx512 && is_allowed(fourierft::kernel_avx512)) return &fourierft::kernel_avx512;
    if (has.avx2 && is_allowed(fourierft::kernel_avx2)) return &fourierft::kernel_avx2;
#endif
    return &fourierft::kernel_generic;
  }();
  return *best;
}

// Memory that a thread keeps between calls. It grows to the size that the largest plan needs.
class Scratch {
 public:
  ~Scratch() { release(); }
  float* reserve(size_t floats) {
    if (floats > size_) {
      release();
      memory_ = static_cast<float*>(::operator new(floats * sizeof(float), kAlignment));
      size_ = floats;
    }
    return memory_;
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  void release() {
    ::operator delete(memory_, kAlignment);
    memory_ = nullptr;
    size_ = 0;
  }
  float* memory_ = nullptr;
  size_t size_ = 0;
};

thread_local Scratch thread_scratch;
thread_local std::vector<float> thread_coefficients, thread_products;

constexpr int64_t kTokensPerPart = 64;
constexpr int64_t kMaxParts = 32;

int part_count(int64_t tokens) {
  return static_cast<int>(std::max<int64_t>(1, std::min(kMaxParts, (tokens + kTokensPerPart - 1) / kTokensPerPart)));
}

struct Range {
  int64_t first, last;
};

Range part_of(int64_t tokens, int parts, int index) {
  // Parts start at multiples of 16 tokens: whole tiles.
  const int64_t tiles = (tokens + 15) / 16;
  return {std::min(tokens, tiles * index / parts * 16), std::min(tokens, tiles * (index + 1) / parts * 16)};
}

// Runs body(index) for all parts. If a part throws an exception, rethrows it after all parts have ended.
template <class Body>
void for_parts(const fourierft_runner* runner, int parts, const Body& body) {
  if (runner == nullptr || runner->parallel_for == nullptr || parts == 1) {
    for (int index = 0; index < parts; index++) body(index);
    return;
  }
  struct Call {
    const Body& body;
    std::vector<std::exception_ptr> errors;
  } call{body, std::vector<std::exception_ptr>(parts)};
  runner->parallel_for(
      runner->pool, parts,
      [](void* argument, int index) {
        Call& call = *static_cast<Call*>(argument);
        try {
          call.body(index);
        } catch (...) {
          call.errors[index] = std::current_exception();
        }
      },
      &call);
  for (const std::exception_ptr& error : call.errors)
    if (error) std::rethrow_exception(error);
}

// The factors of the sparse step: alpha/(d1 d2) c summed over the adapters or, if each row has one adapter, c and alpha/(d1 d2).
struct Scaled {
  const float *coefficients, *factors;
};

Scaled scale(const Plan& plan, const float* coefficients, int32_t adapters, const float* scalings, bool is_sum) {
  const double area = static_cast<double>(plan.d1) * plan.d2;
  if (!is_sum) {
    thread_coefficients.resize(static_cast<size_t>(adapters));
    for (int32_t a = 0; a < adapters; a++) thread_coefficients[a] = static_cast<float>(scalings[a] / area);
    return {coefficients, thread_coefficients.data()};
  }
  const size_t n = static_cast<size_t>(plan.n);
  thread_coefficients.assign(n, 0);
  float* sum = thread_coefficients.data();
  for (int32_t a = 0; a < adapters; a++) {
    const float factor = static_cast<float>(scalings[a] / area);
    const float* row = coefficients + a * n;
    for (size_t l = 0; l < n; l++) sum[l] += factor * row[l];
  }
  return {sum, nullptr};
}

bool valid_arguments(const fourierft_plan* plan, const float* coefficients, int32_t adapters, const float* scalings, fourierft_dtype dtype,
            int64_t tokens, const int32_t* adapter_of_row) {
  if (plan == nullptr || adapters < 0 || tokens < 0 || dtype < FOURIERFT_FLOAT32 || dtype > FOURIERFT_BFLOAT16) return false;
  if (adapters > 0 && (coefficients == nullptr || scalings == nullptr)) return false;
  if (adapter_of_row != nullptr)
    for (int64_t t = 0; t < tokens; t++)
      if (adapter_of_row[t] < -1 || adapter_of_row[t] >= adapters) return false;
  return true;
}

size_t bytes_of(fourierft_dtype dtype) { return dtype == FOURIERFT_FLOAT32 ? 4 : 2; }

template <class Body>
fourierft_status guarded(const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return FOURIERFT_OUT_OF_MEMORY;
  }
}

}  // namespace

extern "C" {

fourierft_status fourierft_plan_check(uint32_t d1, uint32_t d2, uint32_t n, const uint32_t* rows, const uint32_t* columns) {
  constexpr uint32_t kMaxSize = 1u << 24;
  if (rows == nullptr || columns == nullptr) return FOURIERFT_INVALID_ARGUMENT;
  if (d1 == 0 || d2 == 0 || d1 > kMaxSize || d2 > kMaxSize || n == 0 || n > static_cast<uint64_t>(d1) * d2 || n > 1u << 30)
    return FOURIERFT_INVALID_SHAPE;
  for (uint32_t l = 0; l < n; l++)
    if (rows[l] >= d1 || columns[l] >= d2) return FOURIERFT_INVALID_ENTRY;
  return FOURIERFT_OK;
}

fourierft_status fourierft_plan_create(uint32_t d1, uint32_t d2, uint32_t n, const uint32_t* rows, const uint32_t* columns,
                                       fourierft_plan** plan) {
  if (plan == nullptr) return FOURIERFT_INVALID_ARGUMENT;
  const fourierft_status status = fourierft_plan_check(d1, d2, n, rows, columns);
  if (status != FOURIERFT_OK) return status;
  return guarded([&] {
    *plan = new fourierft_plan{Plan(static_cast<int>(d1), static_cast<int>(d2), static_cast<int>(n), rows, columns)};
    return FOURIERFT_OK;
  });
}

void fourierft_plan_destroy(fourierft_plan* plan) { delete plan; }

const char* fourierft_instructions(void) { return kernel().instructions; }

fourierft_status fourierft_forward(const fourierft_plan* handle, const float* coefficients, int32_t adapters, const float* scalings,
                                   fourierft_dtype dtype, const void* x, int64_t tokens, const int32_t* adapter_of_row, void* y,
                                   const fourierft_runner* runner) {
  if (!valid_arguments(handle, coefficients, adapters, scalings, dtype, tokens, adapter_of_row)) return FOURIERFT_INVALID_ARGUMENT;
  if (tokens == 0 || adapters == 0) return FOURIERFT_OK;
  if (x == nullptr || y == nullptr) return FOURIERFT_INVALID_ARGUMENT;
  return guarded([&] {
    const Plan& plan = handle->plan;
    const Scaled c = scale(plan, coefficients, adapters, scalings, adapter_of_row == nullptr);
    const int parts = part_count(tokens);
    const size_t bytes = bytes_of(dtype);
    for_parts(runner, parts, [&](int index) {
      const Range part = part_of(tokens, parts, index);
      kernel().forward(plan, c.coefficients,
                       {dtype, part.last - part.first, adapter_of_row == nullptr ? nullptr : adapter_of_row + part.first, c.factors},
                       static_cast<const char*>(x) + part.first * plan.d2 * bytes, static_cast<char*>(y) + part.first * plan.d1 * bytes,
                       thread_scratch.reserve(kernel().scratch_size(plan)));
    });
    return FOURIERFT_OK;
  });
}

fourierft_status fourierft_backward(const fourierft_plan* handle, const float* coefficients, int32_t adapters, const float* scalings,
                                    fourierft_dtype dtype, const void* x, const void* grad_y, int64_t tokens,
                                    const int32_t* adapter_of_row, float* grad_coefficients, void* grad_x,
                                    const fourierft_runner* runner) {
  if (!valid_arguments(handle, coefficients, adapters, scalings, dtype, tokens, adapter_of_row)) return FOURIERFT_INVALID_ARGUMENT;
  if (adapters == 0) return FOURIERFT_OK;
  if (grad_coefficients == nullptr || (tokens > 0 && (x == nullptr || grad_y == nullptr))) return FOURIERFT_INVALID_ARGUMENT;
  return guarded([&] {
    const Plan& plan = handle->plan;
    const bool is_sum = adapter_of_row == nullptr;
    const Scaled c = scale(plan, coefficients, adapters, scalings, is_sum);
    const int parts = part_count(tokens);
    const size_t bytes = bytes_of(dtype), n = static_cast<size_t>(plan.n), width = is_sum ? n : n * adapters;
    thread_products.assign(width * parts, 0);
    float* products = thread_products.data();
    for_parts(runner, parts, [&](int index) {
      const Range part = part_of(tokens, parts, index);
      kernel().backward(plan, c.coefficients,
                        {dtype, part.last - part.first, is_sum ? nullptr : adapter_of_row + part.first, c.factors},
                        static_cast<const char*>(x) + part.first * plan.d2 * bytes,
                        static_cast<const char*>(grad_y) + part.first * plan.d1 * bytes, products + width * index,
                        grad_x == nullptr ? nullptr : static_cast<char*>(grad_x) + part.first * plan.d2 * bytes,
                        thread_scratch.reserve(kernel().scratch_size(plan)));
    });
    const double area = static_cast<double>(plan.d1) * plan.d2;
    for (int32_t a = 0; a < adapters; a++) {
      const double factor = scalings[a] / area;
      for (size_t l = 0; l < n; l++) {
        double sum = 0;
        for (int index = 0; index < parts; index++) sum += products[width * index + (is_sum ? l : a * n + l)];
        grad_coefficients[a * n + l] = static_cast<float>(factor * sum);
      }
    }
    return FOURIERFT_OK;
  });
}

fourierft_status fourierft_delta(const fourierft_plan* handle, const float* coefficients, int32_t adapters, const float* scalings,
                                 float* delta, const fourierft_runner* runner) {
  if (!valid_arguments(handle, coefficients, adapters, scalings, FOURIERFT_FLOAT32, 0, nullptr) || delta == nullptr)
    return FOURIERFT_INVALID_ARGUMENT;
  return guarded([&] {
    const Plan& plan = handle->plan;
    const Scaled c = scale(plan, coefficients, adapters, scalings, true);
    const int rows = plan.d1 / 2 + 1, parts = part_count(rows);
    for_parts(runner, parts, [&](int index) {
      const Range part = part_of(rows, parts, index);
      kernel().delta(plan, c.coefficients, static_cast<int>(part.first), static_cast<int>(part.last), delta,
                     thread_scratch.reserve(kernel().scratch_size(plan)));
    });
    return FOURIERFT_OK;
  });
}

}  // extern "C"
