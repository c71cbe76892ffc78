// Aligned memory that frees itself; never used by code that is compiled per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace hspan {

// Memory that calls have given back, for the next ones: new memory from the system costs a fault for
// every page that is touched, which small calls would spend a tenth of their time on.
class Pool {
 public:
  static void* take(std::size_t bytes) {
#if !defined(HSPAN_NO_POOL)
    Pool& pool = the();
    const std::lock_guard<std::mutex> lock(pool.mutex_);
    for (std::size_t i = pool.free_.size(); i-- > 0;)
      if (pool.free_[i].second == bytes) {
        void* found = pool.free_[i].first;
        pool.free_.erase(pool.free_.begin() + static_cast<std::ptrdiff_t>(i));
        pool.bytes_ -= bytes;
        return found;
      }
#endif
    return std::aligned_alloc(64, bytes);
  }
  static void give_back(void* memory, std::size_t bytes) {
#if !defined(HSPAN_NO_POOL)
    constexpr std::size_t kMost = 32 << 20, kPieces = 64;
    Pool& pool = the();
    const std::lock_guard<std::mutex> lock(pool.mutex_);
    if (memory && bytes <= kMost) {
      // The oldest ones make room: sizes that come no more don't stay.
      while (pool.bytes_ + bytes > kMost || pool.free_.size() == kPieces) {
        std::free(pool.free_.front().first);
        pool.bytes_ -= pool.free_.front().second;
        pool.free_.erase(pool.free_.begin());
      }
      pool.free_.emplace_back(memory, bytes);
      pool.bytes_ += bytes;
      return;
    }
#endif
    std::free(memory);
  }

 private:
  static Pool& the() {
    static Pool* const pool = new Pool;  // never destroyed: threads may outlive statics
    return *pool;
  }
  Pool() { free_.reserve(64); }
  std::mutex mutex_;
  std::vector<std::pair<void*, std::size_t>> free_;
  std::size_t bytes_ = 0;
};

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count)
      : bytes_((static_cast<std::size_t>(count) * sizeof(T) + 64) / 64 * 64) {
    data_ = static_cast<T*>(Pool::take(bytes_));
    if (!data_) throw std::bad_alloc();
  }
  Buffer(Buffer&& other) noexcept : data_(other.data_), bytes_(other.bytes_) {
    other.data_ = nullptr;
  }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() {
    if (data_) Pool::give_back(data_, bytes_);
  }

  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace hspan
