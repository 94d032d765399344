// By whom a message's bytes are moved, as `transfers` counts it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mooncake_mpi {

enum class TransferPath : std::uint8_t {
  kCopy,    // the processors of the node, out of the other's memory or into it
  kRdma,    // an adapter
  kStream,  // packets
  kPush,    // the copy engine of the sender's device
  kStaged,  // memory of a device, by way of the host's
  kParked,  // the same, kept there by the sender until the receive came
};

inline constexpr std::array<std::string_view, 6> kTransferPathNames = {"copy", "rdma",   "stream",
                                                                       "push", "staged", "parked"};
inline constexpr std::size_t kTransferPaths = kTransferPathNames.size();

}  // namespace mooncake_mpi
