#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/shared_pool.h"
#include "protocol/protocol.h"
#include "transport/lane.h"

namespace mooncake_mpi {

struct EngineConfig {
  ProtocolLimits limits;
  Settings settings;               // of the lanes, too; each reads its own
  std::vector<std::string> lanes;  // by name, those that may be used; empty: all
  std::uint64_t spin_ns = 50'000;  // a waiting thread polls this long before it sleeps
  bool progress_thread = true;
  std::uint64_t timeout_ns = 0;           // of a blocking call; 0: none
  std::uint64_t finalize_timeout_ns = 0;  // of the delivery at the end; 0: none
  // Where the program's buffers may lie that peers can map and that stay registered with adapters;
  // nullptr: nowhere.
  SharedPool* pool = nullptr;
};

}  // namespace mooncake_mpi
