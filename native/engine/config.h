#pragma once

#include <cstdint>
#include <memory>

#include "drivers/linux/process_memory.h"
#include "protocol/protocol.h"

namespace mooncake_mpi {

struct EngineConfig {
  ProtocolLimits limits;
  bool cross_memory = true;        // process_vm_readv, where the kernel allows it
  bool shm = true;                 // the shm lane
  std::uint64_t spin_ns = 50'000;  // a waiting thread polls this long before it sleeps
  bool progress_thread = true;
};

}  // namespace mooncake_mpi
