#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mooncake_mpi::verbs {

struct Config {
  std::vector<std::string> devices;  // names, or name:port; empty: every active port
  int gid_index = -1;                // -1: chosen
  std::uint32_t mtu_bytes = 0;       // 0: the smaller of both ports' active MTU
  std::uint8_t traffic_class = 0;
  std::uint8_t service_level = 0;
  // Without any path to a peer for so long, it is taken to be gone.
  std::uint64_t timeout_ns = 10'000'000'000u;
  // A waiting thread polls this long before it sleeps: to be woken takes an interrupt and two
  // threads, many times what a small message takes.
  std::uint64_t patience_ns = 2'000'000;
  // The longest piece of a message that is read at once. Eight under way are what 400 Gbit/s hold
  // in 10 us. Soft-RoCE answers several long READs in bursts of which it loses packets itself:
  // at 256 KiB every second one went again, and throughput was half as high.
  std::uint32_t fragment_bytes = 64 * 1024;

  // Bytes of memory made for messages that stay registered with each adapter at most; otherwise a
  // quarter of what this process may lock, divided by the adapters.
  std::uint64_t cached_bytes = kQuarter;
  static constexpr std::uint64_t kQuarter = UINT64_MAX;

  friend bool operator==(const Config&, const Config&) = default;
};

// Packets that a peer may have sent before we consumed any of them, in whole packet buffers.
inline constexpr std::uint32_t kCredits = 32;
inline constexpr std::uint32_t kPacketBytes = 8 * 1024 + 256;
// A payload may take so many packets.
inline constexpr std::uint32_t kPacketsPerPayload = 4;
// Receive buffers that are given back to the adapter together, or when there is nothing else to do.
inline constexpr std::uint32_t kSpentReceives = 2;
// Credit packets are not counted; two can be unconsumed at a time, and one more that tells of a
// change of paths.
inline constexpr std::uint32_t kReservedReceives = 3 + kSpentReceives;
inline constexpr std::uint32_t kReceivesPerPath = kCredits + kReservedReceives;
// Every so many requests a completion is asked for; so many slots more than credits, lest a sender
// wait for completions that nobody asked for.
inline constexpr std::uint32_t kSignalEvery = 8;
inline constexpr std::uint32_t kSendSlots = kCredits + kSignalEvery;
inline constexpr std::uint32_t kReadsPerPath = 8;
inline constexpr std::uint32_t kSendDepth = 64;
inline constexpr std::uint32_t kInlineBytes = 128;
inline constexpr std::uint8_t kTimeout = 14;  // 67 ms
inline constexpr std::uint8_t kRetries = 6;

}  // namespace mooncake_mpi::verbs
