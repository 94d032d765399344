#pragma once

#include "transport/transport.h"

namespace mooncake_mpi {

// The channel of a peer that has ended: takes packets and drops them, so that nothing waits for
// room in a ring that nobody reads, and its memory cannot be read.
class GoneChannel final : public Channel {
 public:
  bool try_send(const wire::Header&, Bytes, Bytes) noexcept override { return true; }
  std::size_t max_payload_bytes() const noexcept override { return 32 * 1024; }
  void return_credit(std::uint32_t) noexcept override {}
  std::uint64_t returned_credit() const noexcept override { return 0; }
  Error read_peer(void*, const RemoteMemory&, std::size_t, bool) noexcept override {
    return Error::kProcessFailed;
  }
  Error write_peer(const void*, const RemoteMemory&, std::size_t, bool) noexcept override {
    return Error::kProcessFailed;
  }
};

}  // namespace mooncake_mpi
