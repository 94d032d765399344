#pragma once

#include <pthread.h>

namespace mooncake_mpi::linux_driver {

// In memory that other processes map: by a load they learn that its process has neither ended nor
// begun another program. One of its threads holds a robust lock there, which the kernel marks when
// the thread ends, before anything of the process goes, its memory and its number included. Memory
// of zeros is a mark that nobody holds.
class alignas(64) LifeMark {
 public:
  LifeMark() = default;
  LifeMark(const LifeMark&) = delete;
  LifeMark& operator=(const LifeMark&) = delete;

  // By a thread that lives as long as its process, or lets go before it ends. Does nothing where
  // the system has no such locks.
  void hold() noexcept;
  void let_go() noexcept;

  // True: the process lives, and has lived since hold(). False: nothing is known.
  bool is_held() const noexcept;
  // The same after a copy: it lived when all of what the caller did before was over.
  bool is_still_held() const noexcept;

 private:
  pthread_mutex_t mutex_{};
};

}  // namespace mooncake_mpi::linux_driver
