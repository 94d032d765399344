#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "wire/offers.h"

namespace mooncake_mpi::tcp {

inline constexpr wire::LaneId kLane = 5;

struct Config {
  std::vector<std::string> interfaces;  // names, or subnets as 10.1.0.0/16; empty: all that do
  std::uint16_t first_port = 0;         // zero: any
  std::uint16_t last_port = 0;
  // A host that answers nothing for so long is taken to be gone.
  std::uint64_t timeout_ns = 120'000'000'000u;
  // Nobody listens at any of a process's addresses for so long: it has ended. Less than that it
  // may have yet to make its communicator.
  std::uint64_t refused_ns = 20'000'000'000u;
  // A waiting thread polls this long before it sleeps: to be woken takes two threads.
  std::uint64_t patience_ns = 2'000'000;
  // Connections to each process for messages of so many bytes and more, beside the one for packets.
  std::uint32_t streams = 2;
  std::uint64_t stream_bytes = 1 << 20;
  // Small packets to one process go together where no more time than that is between them.
  std::uint64_t closely_ns = 5'000;
  // So few peers are asked one by one for what has arrived, and more of them all at once.
  std::uint32_t few_peers = 2;

  // Connections are encrypted; otherwise those are to whom that is set.
  bool encrypts = false;
  std::string tls_library = "libssl.so.3";

  friend bool operator==(const Config&, const Config&) = default;
};

}  // namespace mooncake_mpi::tcp
