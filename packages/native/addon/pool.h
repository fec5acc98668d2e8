// Threads that compute parts of a call. Only one call runs at a time; its own thread also computes parts.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "fourierft/fourierft.h"

namespace fourierft {

class Pool {
 public:
  // Starts fewer threads if the system does not allow that many.
  explicit Pool(unsigned threads) {
    try {
      for (unsigned i = 1; i < threads; i++) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
    }
  }

  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ending_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  fourierft_runner runner() {
    return {[](void* pool, int count, void (*body)(void*, int), void* argument) { static_cast<Pool*>(pool)->run(count, body, argument); }, this};
  }

 private:
  void run(int count, void (*body)(void*, int), void* argument) {
    if (count == 1) return body(argument, 0);
    std::lock_guard<std::mutex> call_lock(call_mutex_);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = body;
      argument_ = argument;
      count_ = count;
      next_ = 0;
      open_ = true;
      round_++;
    }
    wake_.notify_all();
    run_parts();
    // Does not wait for workers that have not woken yet: on a busy machine, waking can take longer than the work.
    std::unique_lock<std::mutex> lock(mutex_);
    open_ = false;
    done_.wait(lock, [this] { return working_ == 0; });
  }

  void run_parts() {
    for (int index; (index = next_.fetch_add(1)) < count_;) body_(argument_, index);
  }

  void work() {
    unsigned last_round = 0;
    for (;;) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return ending_ || (open_ && round_ != last_round); });
        if (ending_) return;
        last_round = round_;
        working_++;
      }
      run_parts();
      std::lock_guard<std::mutex> lock(mutex_);
      if (--working_ == 0) done_.notify_one();
    }
  }

  std::vector<std::thread> workers_;
  std::mutex call_mutex_, mutex_;
  std::condition_variable wake_, done_;
  void (*body_)(void*, int) = nullptr;
  void* argument_ = nullptr;
  int count_ = 0, working_ = 0;
  std::atomic<int> next_{0};
  unsigned round_ = 0;
  bool open_ = false, ending_ = false;
};

// Returns the process's pool. It is made when first needed and never destroyed, because its threads can outlive static destructors.
inline Pool& pool() {
  static Pool* const shared = new Pool(std::max(1u, std::thread::hardware_concurrency()));
  return *shared;
}

}  // namespace fourierft
