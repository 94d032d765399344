#include "drivers/linux/life_mark.h"

#include <linux/futex.h>

#include <atomic>

namespace mooncake_mpi::linux_driver {

void LifeMark::hold() noexcept {
#ifdef __GLIBC__
  pthread_mutexattr_t kind;
  if (pthread_mutexattr_init(&kind) != 0) return;
  if (pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED) == 0 &&
      pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST) == 0 &&
      pthread_mutex_init(&mutex_, &kind) == 0) {
    pthread_mutex_lock(&mutex_);
  }
  pthread_mutexattr_destroy(&kind);
#endif
}

void LifeMark::let_go() noexcept {
  if (is_held()) pthread_mutex_unlock(&mutex_);
}

// The first word of glibc's mutex is the futex that the kernel knows; other libraries have it
// elsewhere.
bool LifeMark::is_held() const noexcept {
#ifdef __GLIBC__
  const auto word = static_cast<unsigned>(__atomic_load_n(&mutex_.__data.__lock, __ATOMIC_ACQUIRE));
  return (word & FUTEX_TID_MASK) != 0 && (word & FUTEX_OWNER_DIED) == 0;
#else
  return false;
#endif
}

bool LifeMark::is_still_held() const noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return is_held();
}

}  // namespace mooncake_mpi::linux_driver
