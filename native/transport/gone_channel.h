#pragma once

#include "transport/transport.h"

namespace mooncake_mpi {

// The channel of a peer that has ended: takes packets and drops them, so that nothing waits for
// room in a ring that nobody reads.
class GoneChannel final : public Channel {
 public:
  bool try_send(const wire::Header&, Bytes, Bytes) noexcept override { return true; }
  std::size_t max_payload_bytes() const noexcept override { return 32 * 1024; }
  void return_credit(std::uint32_t) noexcept override {}
  std::uint64_t returned_credit() const noexcept override { return 0; }
};

}  // namespace mooncake_mpi
