// Replaces the program's operator delete[] by one that can keep arrays for a while; for one source
// of an executable. Any thread, under a lock of its own.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace mooncake_mpi::testing {

// While one lives, arrays that are freed stay as they are.
class KeptArrays {
 public:
  KeptArrays() { keep(true); }
  ~KeptArrays() { keep(false); }
  KeptArrays(const KeptArrays&) = delete;
  KeptArrays& operator=(const KeptArrays&) = delete;

  static bool take(void* array) {
    const std::lock_guard lock(mutex_);
    if (keeping_) kept_.push_back(array);
    return keeping_;
  }

 private:
  static void keep(bool keeping) {
    const std::lock_guard lock(mutex_);
    keeping_ = keeping;
    for (void* array : kept_)
      std::free(array);
    kept_.clear();
  }

  static inline std::mutex mutex_;
  static inline bool keeping_ = false;
  static inline std::vector<void*> kept_;
};

}  // namespace mooncake_mpi::testing

// A sanitizer has each of these of its own, and tells their memory from malloc's.
[[gnu::noinline]] void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return std::malloc(bytes);
}
[[gnu::noinline]] void* operator new[](std::size_t bytes) {
  if (void* array = operator new[](bytes, std::nothrow); array != nullptr) return array;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete[](void* array) noexcept {
  if (array != nullptr && !mooncake_mpi::testing::KeptArrays::take(array)) std::free(array);
}
[[gnu::noinline]] void operator delete[](void* array, std::size_t) noexcept {
  operator delete[](array);
}
