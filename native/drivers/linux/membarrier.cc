#include "drivers/linux/membarrier.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace mooncake_mpi::linux_driver {

GlobalBarrier::GlobalBarrier() noexcept
    : available_(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0) {}

void GlobalBarrier::issue() const noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (available_) syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
}

}  // namespace mooncake_mpi::linux_driver
