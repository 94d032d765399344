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
  kPull,    // the copy engine of the receiver's device
  kKernel,  // a kernel in the stream that waits for the message
};

inline constexpr std::array<std::string_view, 8> kTransferPathNames = {
    "copy", "rdma", "stream", "push", "staged", "parked", "pull", "kernel"};
inline constexpr std::size_t kTransferPaths = kTransferPathNames.size();

// From one device's memory to another's, and not by way of the host's.
constexpr bool is_between_devices(TransferPath path) noexcept {
  return path == TransferPath::kPush || path == TransferPath::kPull ||
         path == TransferPath::kKernel;
}

}  // namespace mooncake_mpi
