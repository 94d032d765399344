#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "transport/hang_board.h"

namespace mooncake_mpi {

struct Context;

// A call that waits: for operations, by their ids, or for a probed message.
struct WaitRecord {
  const char* call = "";
  std::uint64_t since_ns = 0;
  std::vector<std::uint64_t> operations;
  bool one_of_many = false;
  const Context* probed = nullptr;
  std::int32_t source = 0;
  std::int32_t tag = 0;
  LibraryMessage library;
};

// What a process of this node waits for, copied from its board.
struct BoardCopy {
  ProcessId process{};
  std::int32_t pid = 0;
  std::int32_t rank = -1;
  std::int32_t ask_descriptor = -1;
  std::uint64_t ask_inode = 0;
  std::uint32_t reports = 0;
  std::vector<WaitEntry> waits;
  std::string report;  // the last one
};

BoardCopy copy_board(const ProcessId& process, const HangBoard& board);
// Of another process, by its segment's descriptor there; empty (pid 0) if it has none.
BoardCopy read_board(std::int32_t pid, int descriptor);

// "in Recv for a message from rank 1 with tag 5 on MPI_COMM_WORLD (80 bytes), for 3.2 s"
std::string describe(const WaitEntry& wait, std::uint64_t now_ns);
// The processes that wait for each other in a circle, one line a circle; empty when none do.
std::string describe_cycles(const std::vector<BoardCopy>& boards, std::uint64_t now_ns);

}  // namespace mooncake_mpi
