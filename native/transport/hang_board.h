#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "transport/packet_sink.h"

namespace mooncake_mpi {

// A message that would do, but is in the MPI library's queue: its sender called the library.
struct LibraryMessage {
  bool found = false;
  std::int32_t source = 0;
  std::int32_t tag = 0;
  std::uint64_t bytes = 0;
};

// One message that a process waits for. Ranks and tags below zero: any.
struct WaitEntry {
  enum class Kind : std::uint8_t { kReceive, kSend, kProbe };

  ProcessId peer{};            // all zero: any process
  std::uint64_t since_ns = 0;  // CLOCK_MONOTONIC, which all processes of a node share
  std::uint64_t bytes = 0;
  std::int32_t rank = 0;  // of the waiting process, in that communicator
  std::int32_t peer_rank = -1;
  std::int32_t tag = -1;
  Kind kind = Kind::kReceive;
  bool one_of_many = false;  // the call returns when any one of its messages is there
  LibraryMessage library;
  char call[16] = {};
  char communicator[40] = {};
};

template <std::size_t kSize>
void copy_text(char (&to)[kSize], std::string_view text) noexcept {
  const std::size_t length = text.size() < kSize ? text.size() : kSize - 1;
  std::memcpy(to, text.data(), length);
  to[length] = 0;
}

// What a process waits for, in memory that others can map: they read it even when the process is
// stopped. Written only by waits that have lasted a while.
struct HangBoard {
  static constexpr std::uint32_t kEntries = 8;
  static constexpr std::size_t kReportBytes = 8192;

  std::int32_t pid = 0;
  std::int32_t rank = -1;                 // in the first communicator of several processes
  std::int32_t ask_descriptor = -1;       // of this process: a byte written there asks for a report
  std::uint64_t ask_inode = 0;            // of the pipe that it means, while it does
  std::atomic<std::uint32_t> version{0};  // odd while the entries are written
  std::uint32_t count = 0;
  WaitEntry entries[kEntries];
  std::atomic<std::uint32_t> reports{0};  // made so far
  char report[kReportBytes] = {};         // the last one
};

}  // namespace mooncake_mpi
