#include "base/biased_mutex.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

namespace mooncake_mpi {
namespace {

bool register_private_barrier() noexcept {
#if defined(__SANITIZE_THREAD__)
  return false;
#else
  return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
#endif
}

void private_barrier() noexcept {
  syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

}  // namespace

BiasedMutex::BiasedMutex() noexcept : biasable_(register_private_barrier()) {}

// Invariant: whoever holds mutex_ with contested_ set and inside_ clear (seen after the barrier)
// holds the lock. contested_ is set by a visitor and stays set for good once the bias is revoked.
// Held for microseconds, most of the time: to sleep takes longer.
void BiasedMutex::lock_mutex() noexcept {
  constexpr int kTries = 64;
  for (int i = 0; i < kTries; ++i) {
    if (mutex_.try_lock()) return;
    cpu_relax();
  }
  mutex_.lock();
}

void BiasedMutex::lock_slow(bool counts) noexcept {
  lock_mutex();
  const void* owner = owner_.load(std::memory_order_relaxed);
  if (biasable_ && owner == nullptr && counts) {
    owner_.store(this_thread(), std::memory_order_relaxed);
  } else if (biasable_ && owner != nullptr && owner != this_thread()) {
    contested_.store(true, std::memory_order_relaxed);
    private_barrier();
    for (int spins = 0; inside_.load(std::memory_order_acquire); ++spins) {
      if (spins < 1000) {
        cpu_relax();
      } else {
        usleep(50);  // the owner may be copying a large fragment, or be descheduled
      }
    }
    if (counts && ++visits_ >= kRevokeAfter) {
      biasable_ = false;
      owner_.store(nullptr, std::memory_order_relaxed);
    }
  }
  slow_holder_ = true;
}

void BiasedMutex::unlock_slow() noexcept {
  slow_holder_ = false;
  // The owner may go back to its fast path, unless the bias is gone: an owner that was held up
  // between its look at owner_ and its store to inside_ must still find the lock contested.
  if (biasable_) contested_.store(false, std::memory_order_release);
  mutex_.unlock();
}

}  // namespace mooncake_mpi
