#pragma once

#include <cstdint>
#include <memory>

#include "drivers/linux/memory_places.h"
#include "drivers/linux/process_memory.h"
#include "drivers/verbs/verbs.h"
#include "memory/shared_pool.h"
#include "protocol/protocol.h"
#include "transport/verbs/config.h"

namespace mooncake_mpi {

struct EngineConfig {
  ProtocolLimits limits;
  bool cross_memory = true;  // process_vm_readv, where the kernel allows it
  bool mapping = true;       // loads and stores on memory of peers, where it is made for that
  bool shm = true;           // the shm lane
  bool verbs = true;         // the verbs lane, where there is a port
  verbs::Config verbs_config;
  std::shared_ptr<verbs_driver::Provider> verbs_provider;     // nullptr: libibverbs
  std::shared_ptr<linux_driver::MemoryPlaces> memory_places;  // nullptr: this machine's
  std::uint64_t spin_ns = 50'000;  // a waiting thread polls this long before it sleeps
  bool progress_thread = true;
  std::uint64_t timeout_ns = 0;           // of a blocking call; 0: none
  std::uint64_t finalize_timeout_ns = 0;  // of the delivery at the end; 0: none
  // Where the program's buffers may lie that peers can map and that stay registered with adapters;
  // nullptr: nowhere.
  SharedPool* pool = nullptr;
};

}  // namespace mooncake_mpi
