#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/hang_report.h"
#include "protocol/operation.h"

namespace mooncake_mpi {

class Protocol;

// A message of the program that a call waits for, of this process's contexts.
struct Awaited {
  std::uint32_t context_number;
  std::int32_t source;
  std::int32_t tag;
};

// The calls of this process that have waited for a while, and the board that says what for. Engine
// lock held for every call.
class Waits {
 public:
  explicit Waits(Protocol& protocol) noexcept : protocol_(protocol) {}
  Waits(const Waits&) = delete;
  Waits& operator=(const Waits&) = delete;

  // Where others find it; nullptr: nowhere.
  void set_board(HangBoard* board) noexcept { board_ = board != nullptr ? board : &own_board_; }
  HangBoard& board() const noexcept { return *board_; }

  // Such a call, until end().
  std::uint64_t begin(const WaitRecord& record);
  void end(std::uint64_t id);
  std::vector<Awaited> awaited(std::uint64_t id) const;
  std::vector<std::uint64_t> ids() const;
  void found_in_library(std::uint64_t id, const LibraryMessage& message);
  // What the process waits for, and the heads of its queues. `elsewhere`: where in the MPI library
  // it is while no call here waits, if it is.
  std::string explain(pid_t process, std::string_view elsewhere) const;

 private:
  void write_board();
  WaitEntry describe(const WaitRecord& record, const Operation* operation) const;
  std::vector<WaitEntry> describe_all(const WaitRecord& record) const;

  Protocol& protocol_;
  std::map<std::uint64_t, WaitRecord> waits_;
  std::uint64_t next_ = 0;
  HangBoard own_board_;  // when there is no segment to hold one
  HangBoard* board_ = &own_board_;
};

}  // namespace mooncake_mpi
