// Memory for the copies that a call reads and writes off JavaScript's thread. Blocks are kept for later calls, because new pages cost as much
// as the kernel's work on them. Each Node-API environment (main thread or worker) has its own buffers and uses them only on its thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace fourierft {

class CopyBuffers {
  struct Deleter {
    void operator()(char* data) const { ::operator delete(data, kAlignment); }
  };
  struct Memory {
    std::unique_ptr<char, Deleter> data;
    size_t size = 0;
  };

 public:
  static constexpr std::align_val_t kAlignment{64};
  static constexpr size_t kMaxKeptBytes = size_t{64} << 20;
  static constexpr size_t kMaxKeptBlocks = 16;

  // Returns its memory to the buffers when it is destroyed.
  class Block {
   public:
    Block() = default;
    Block(Block&& other) noexcept { *this = std::move(other); }
    Block& operator=(Block&& other) noexcept {
      std::swap(owner_, other.owner_);
      std::swap(memory_, other.memory_);
      return *this;
    }
    ~Block() {
      if (owner_ != nullptr) owner_->keep(std::move(memory_));
    }
    char* data() const { return memory_.data.get(); }

   private:
    friend class CopyBuffers;
    Block(CopyBuffers* owner, Memory memory) : owner_(owner), memory_(std::move(memory)) {}
    CopyBuffers* owner_ = nullptr;
    Memory memory_;
  };

  Block take(size_t bytes) {
    // A block of more than four times the size is kept for larger calls.
    const auto fits = [&](const Memory& memory) { return memory.size >= bytes && memory.size / 4 <= bytes; };
    const auto found = std::find_if(kept_.rbegin(), kept_.rend(), fits);
    if (found == kept_.rend())
      return Block(this, {std::unique_ptr<char, Deleter>(static_cast<char*>(::operator new(std::max<size_t>(bytes, 1), kAlignment))), bytes});
    Memory memory = std::move(*found);
    kept_.erase(std::next(found).base());
    kept_bytes_ -= memory.size;
    return Block(this, std::move(memory));
  }

 private:
  // Keeps the block and frees the oldest ones if there are too many.
  void keep(Memory memory) {
    if (memory.size > kMaxKeptBytes) return;
    kept_bytes_ += memory.size;
    try {
      kept_.push_back(std::move(memory));
    } catch (const std::bad_alloc&) {
      kept_bytes_ -= memory.size;
    }
    while (kept_bytes_ > kMaxKeptBytes || kept_.size() > kMaxKeptBlocks) {
      kept_bytes_ -= kept_.front().size;
      kept_.erase(kept_.begin());
    }
  }

  std::vector<Memory> kept_;
  size_t kept_bytes_ = 0;
};

}  // namespace fourierft
