// What one process has moved to a peer and from it, by path. Engine lock held for every call.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "transport/transfer_path.h"

namespace mooncake_mpi {

struct Traffic {
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;
};

// Whole messages. Those of host memory that went with their header are not among them: the way of a
// small message is too short to count it.
class Transfers {
 public:
  using ByPath = std::array<Traffic, kTransferPaths>;

  void count_sent(TransferPath path, std::uint64_t bytes) noexcept { add(sent_, path, bytes); }
  void count_received(TransferPath path, std::uint64_t bytes) noexcept {
    add(received_, path, bytes);
  }
  std::uint64_t bytes_sent() const noexcept {
    std::uint64_t bytes = 0;
    for (const Traffic& traffic : sent_)
      bytes += traffic.bytes;
    return bytes;
  }
  const ByPath& sent() const noexcept { return sent_; }
  const ByPath& received() const noexcept { return received_; }

 private:
  static void add(ByPath& counts, TransferPath path, std::uint64_t bytes) noexcept {
    Traffic& traffic = counts[static_cast<std::size_t>(path)];
    ++traffic.messages;
    traffic.bytes += bytes;
  }

  ByPath sent_{};
  ByPath received_{};
};

}  // namespace mooncake_mpi
