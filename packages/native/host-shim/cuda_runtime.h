// The subset of CUDA that the kernels in cuda/ use, for a CPU. Each thread of a block is a coroutine that stops at each barrier. Shared memory
// is a block of memory of exactly the size that the launch requested, filled with NaN, so sanitizers find wrong accesses. The shim ends the
// program if threads of a block wait at different barriers, or if only some of them wait. Between two barriers threads run one after
// another, in an order that tests choose: if a barrier is missing, the result depends on the order.
//
// A host compiler with this folder on its path finds this file as <cuda_runtime.h>; nvcc finds its own. Blocks run one after another in the
// calling thread, one launch at a time, and a launch returns when they have ended. The shim checks results, not speed.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <type_traits>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define HOST_SHIM_FIBERS
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HOST_SHIM_FIBERS
#endif
#endif
#ifdef HOST_SHIM_FIBERS
#include <sanitizer/common_interface_defs.h>
#endif

#define HOST_SHIM
#define __global__
#define __device__
#define __forceinline__ inline
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)

struct float2 {
  float x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

typedef struct CUstream_st* cudaStream_t;

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2, cudaErrorInvalidConfiguration = 9 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };

namespace host_shim {

// The order of a block's threads between two barriers.
enum class Order { ascending, descending, shuffled };

struct Settings {
  Order order = Order::ascending;
  int shared_memory = 232448;   // of a block, as on an H100
  int multiprocessors = 132;
  int omitted_barrier = -1;     // the index of the barrier that every block skips, in tests that must fail without it; -1: none
};
inline Settings settings;
inline int max_barriers = 0;  // the largest number of barriers of a block
inline int launches = 0;
inline std::atomic<int> waits{0};  // the number of calls that allocate memory or could wait for a device

[[noreturn]] inline void fail(const char* problem) {
  std::fprintf(stderr, "host shim: %s\n", problem);
  std::abort();
}

struct Thread {
  dim3 index;
  ucontext_t context;
  char* stack = nullptr;
  jmp_buf resume_point;
  bool started = false;
  bool finished = false;
  int barriers = 0;              // the number reached so far
  int line = 0;                  // of the barrier where it waits
  void* fake_stack = nullptr;
};

class Block {
 public:
  static constexpr size_t kStack = 32 * 1024;

  Block(dim3 grid, dim3 size) : grid_(grid), size_(size), threads_(static_cast<size_t>(size.x) * size.y * size.z) {
    static thread_local std::vector<std::unique_ptr<char[]>> stacks;
    while (stacks.size() < threads_.size()) stacks.emplace_back(new char[kStack]);
    for (size_t i = 0; i < threads_.size(); i++) start(threads_[i], static_cast<unsigned>(i), stacks[i].get());
  }

  void run(dim3 index, size_t shared_bytes, const std::function<void()>& body) {
    index_ = index;
    body_ = &body;
    shared_bytes_ = shared_bytes;
    shared_.reset(new float[shared_bytes / sizeof(float)]);
    for (size_t i = 0; i < shared_bytes / sizeof(float); i++) shared_[i] = NAN;
    running_ = this;
    for (Thread& thread : threads_) {
      thread.finished = false;
      thread.barriers = 0;
    }
    std::vector<size_t> order(threads_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (settings.order == Order::descending) std::reverse(order.begin(), order.end());
    std::mt19937 random(index.x + 1);
    size_t finished = 0;
    while (finished < threads_.size()) {
      if (settings.order == Order::shuffled) std::shuffle(order.begin(), order.end(), random);
      for (const size_t i : order) resume(threads_[i]);
      finished = 0;
      for (const Thread& thread : threads_) finished += thread.finished;
      if (finished != 0 && finished != threads_.size()) fail("some threads of a block wait at a barrier and others have ended");
      if (finished == 0)
        for (const Thread& thread : threads_)
          if (thread.line != threads_[0].line) fail("threads of a block wait at different barriers");
    }
    max_barriers = std::max(max_barriers, threads_[0].barriers);
    running_ = nullptr;
  }

  void barrier(int line) {
    Thread& thread = *current_;
    thread.line = line;
    if (thread.barriers++ == settings.omitted_barrier) return;
    suspend(thread);
  }

  static Block& running() { return *running_; }
  const dim3& thread_index() const { return current_->index; }
  const dim3& block_index() const { return index_; }
  const dim3& size() const { return size_; }
  const dim3& grid() const { return grid_; }
  void* shared_memory() const { return shared_.get(); }

 private:
  void start(Thread& thread, unsigned i, char* stack) {
    thread.index = dim3(i % size_.x, i / size_.x % size_.y, i / size_.x / size_.y);
    thread.stack = stack;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = stack;
    thread.context.uc_stack.ss_size = kStack;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, entry, 0);
  }

  // A coroutine runs the thread of one block after another, and stays suspended after the last.
  static void entry() {
    Block& block = running();
#ifdef HOST_SHIM_FIBERS
    __sanitizer_finish_switch_fiber(nullptr, &block.main_stack_, &block.main_stack_size_);
#endif
    Thread& thread = *block.current_;
    for (;;) {
      (*block.body_)();
      thread.finished = true;
      block.suspend(thread);
    }
  }

  void resume(Thread& thread) {
    current_ = &thread;
#ifdef HOST_SHIM_FIBERS
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, thread.stack, kStack);
#endif
    jump(thread);
#ifdef HOST_SHIM_FIBERS
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  }

  void suspend(Thread& thread) {
#ifdef HOST_SHIM_FIBERS
    __sanitizer_start_switch_fiber(&thread.fake_stack, main_stack_, main_stack_size_);
#endif
    jump_back(thread);
#ifdef HOST_SHIM_FIBERS
    __sanitizer_finish_switch_fiber(thread.fake_stack, nullptr, nullptr);
#endif
  }

  // Contexts are used only for the first switch, because `swapcontext` makes a system call for the signal mask each time.
  void jump(Thread& thread) {
    if (_setjmp(main_) == 0) {
      if (thread.started) _longjmp(thread.resume_point, 1);
      thread.started = true;
      setcontext(&thread.context);
    }
  }
  void jump_back(Thread& thread) {
    if (_setjmp(thread.resume_point) == 0) _longjmp(main_, 1);
  }

  inline static thread_local Block* running_ = nullptr;
  dim3 grid_, size_, index_;
  std::vector<Thread> threads_;
  Thread* current_ = nullptr;
  jmp_buf main_;
  const void* main_stack_ = nullptr;
  size_t main_stack_size_ = 0;
  const std::function<void()>* body_ = nullptr;
  std::unique_ptr<float[]> shared_;
  size_t shared_bytes_ = 0;
};

inline void* shared_memory() { return Block::running().shared_memory(); }

}  // namespace host_shim

#define threadIdx (host_shim::Block::running().thread_index())
#define blockIdx (host_shim::Block::running().block_index())
#define blockDim (host_shim::Block::running().size())
#define gridDim (host_shim::Block::running().grid())
#define __syncthreads() host_shim::Block::running().barrier(__LINE__)

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess                  ? "no error"
         : error == cudaErrorMemoryAllocation  ? "out of memory"
         : error == cudaErrorInvalidConfiguration ? "invalid configuration argument"
                                               : "invalid argument";
}

inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? host_shim::settings.multiprocessors : host_shim::settings.shared_memory;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int value) {
  return value <= host_shim::settings.shared_memory ? cudaSuccess : cudaErrorInvalidValue;
}
template <class T>
cudaError_t cudaMalloc(T** memory, size_t bytes) {
  host_shim::waits++;
  *memory = static_cast<T*>(std::malloc(bytes));
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  host_shim::waits++;
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  host_shim::waits++;
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone = 0 };
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
  host_shim::waits++;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }

// Kernels have one argument.
template <class Argument>
cudaError_t cudaLaunchKernel(void (*kernel)(Argument), dim3 grid, dim3 block, void** arguments, size_t shared_bytes, cudaStream_t) {
  const uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 ||
      shared_bytes > static_cast<size_t>(host_shim::settings.shared_memory))
    return cudaErrorInvalidConfiguration;
  static std::mutex device;
  const std::lock_guard<std::mutex> lock(device);
  host_shim::launches++;
  typedef typename std::remove_const<Argument>::type Value;
  const Value argument = *static_cast<const Value*>(arguments[0]);
  host_shim::Block threads_of_block(grid, block);
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) threads_of_block.run(dim3(x, y, z), shared_bytes, [&] { kernel(argument); });
  return cudaSuccess;
}
