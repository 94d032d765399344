#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

namespace mooncake_mpi {

// A mutex that costs its owner thread two plain stores and a load: no atomic read-modify-write, no
// fence. The first thread that locks it becomes the owner. Another thread that wants it announces
// itself and issues a process-wide memory barrier (membarrier(2)), which pays for both sides of the
// store-load ordering that the owner leaves out. After `kRevokeAfter` such visits the bias is given
// up for good and the lock is an ordinary mutex: programs with many threads in the engine pay
// what they would have paid anyway.
//
// Where membarrier is refused, and under ThreadSanitizer (which cannot see it), the bias is off.
class BiasedMutex {
 public:
  BiasedMutex() noexcept;
  BiasedMutex(const BiasedMutex&) = delete;
  BiasedMutex& operator=(const BiasedMutex&) = delete;

  void lock() noexcept {
    if (owner_.load(std::memory_order_relaxed) == this_thread()) {
      inside_.store(true, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      if (!contested_.load(std::memory_order_acquire)) [[likely]]
        return;
      inside_.store(false, std::memory_order_release);
    }
    lock_slow(true);
  }

  // For a thread that comes now and then and should not cost the owner its bias.
  void lock_as_visitor() noexcept { lock_slow(false); }

  void unlock() noexcept {
    if (slow_holder_) {
      unlock_slow();
    } else {
      inside_.store(false, std::memory_order_release);
    }
  }

 private:
  static constexpr int kRevokeAfter = 64;

  // Where its thread's own memory is: with GCC a register, and no call in a shared library.
  static const void* this_thread() noexcept {
#if defined(__GNUC__) && __GNUC__ >= 11 && !defined(__clang__)
    return __builtin_thread_pointer();
#else
    static thread_local const char marker = 0;
    return &marker;
#endif
  }

  void lock_mutex() noexcept;
  void lock_slow(bool counts) noexcept;
  void unlock_slow() noexcept;

  std::atomic<const void*> owner_{nullptr};
  std::atomic<bool> inside_{false};
  std::atomic<bool> contested_{false};
  bool slow_holder_ = false;  // written and read only by whoever holds the lock
  int visits_ = 0;            // guarded by mutex_
  bool biasable_;             // guarded by mutex_
  std::mutex mutex_;
};

}  // namespace mooncake_mpi
