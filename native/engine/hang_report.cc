// What processes wait for, in words, and who waits for whom in a circle. Any thread, without a
// lock: a board of another process is copied first.
#include "engine/hang_report.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

#include "drivers/linux/shared_memory.h"
#include "transport/shm/layout.h"

namespace mooncake_mpi {
namespace {

template <std::size_t kSize>
std::string text_of(const char (&text)[kSize]) {
  return std::string(text, strnlen(text, kSize));
}

std::string name_of(std::int32_t rank, const char* what) {
  return rank < 0 ? std::string("any ") + what : std::string(what) + " " + std::to_string(rank);
}

std::string awaited(const WaitEntry& wait) {
  const std::string bytes = std::to_string(wait.bytes) + " bytes";
  const std::string peer = name_of(wait.peer_rank, "rank");
  const std::string tag = name_of(wait.tag, "tag");
  if (wait.kind == WaitEntry::Kind::kSend) {
    return peer + " to receive " + bytes + " with " + tag;
  }
  std::string text = "a message from " + peer + " with " + tag;
  return wait.kind == WaitEntry::Kind::kReceive ? text + " (up to " + bytes + ")" : text;
}

std::string in_library(const LibraryMessage& message) {
  if (!message.found) return {};
  return "; one from rank " + std::to_string(message.source) + " with tag " +
         std::to_string(message.tag) + " (" + std::to_string(message.bytes) +
         " bytes) waits in the MPI library, which its sender called";
}

}  // namespace

BoardCopy copy_board(const ProcessId& process, const HangBoard& board) {
  BoardCopy copy;
  copy.process = process;
  copy.pid = board.pid;
  copy.rank = board.rank;
  copy.ask_descriptor = board.ask_descriptor;
  copy.ask_inode = board.ask_inode;
  copy.reports = board.reports.load(std::memory_order_acquire);
  copy.report = text_of(board.report);
  // A process that was stopped in the middle of writing is read as it is.
  for (int attempt = 0; attempt < 100; ++attempt) {
    const std::uint32_t before = board.version.load(std::memory_order_acquire);
    copy.waits.assign(board.entries, board.entries + std::min(board.count, HangBoard::kEntries));
    std::atomic_thread_fence(std::memory_order_acquire);
    if (before % 2 == 0 && board.version.load(std::memory_order_relaxed) == before) break;
  }
  return copy;
}

BoardCopy read_board(std::int32_t pid, int descriptor) {
  Result<linux_driver::SharedMemory> memory =
      linux_driver::SharedMemory::open_peer(pid, descriptor);
  if (!memory) return {};
  // Any file may have that number, and one that is shorter would end this process.
  Result<std::size_t> bytes = memory.value().sealed_bytes();
  if (!bytes || bytes.value() != shm::kSegmentBytes) return {};
  Result<linux_driver::Mapping> mapping = memory.value().map(0, shm::kSegmentHeaderBytes);
  if (!mapping) return {};
  const auto& header = *reinterpret_cast<const shm::SegmentHeader*>(mapping.value().data());
  // A child that a fork made has the descriptor of its parent's segment.
  if (header.layout != shm::kLayout || header.board.pid != pid) return {};
  return copy_board(header.process, header.board);
}

std::string describe(const WaitEntry& wait, std::uint64_t now_ns) {
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f s",
                static_cast<double>(now_ns - std::min(now_ns, wait.since_ns)) / 1e9);
  return "in " + text_of(wait.call) + " for " + awaited(wait) + " on " +
         text_of(wait.communicator) + ", for " + seconds + in_library(wait.library);
}

// Each process waits for those that its board names; a walk that comes back to where it began is a
// circle. The circle is told from its lowest rank on, so that it is told once.
std::string describe_cycles(const std::vector<BoardCopy>& boards, std::uint64_t now_ns) {
  std::map<ProcessId, const BoardCopy*> by_process;
  for (const BoardCopy& board : boards)
    by_process[board.process] = &board;
  std::string text;
  std::set<ProcessId> told;
  std::vector<const BoardCopy*> starts;
  for (const BoardCopy& board : boards)
    starts.push_back(&board);
  std::sort(starts.begin(), starts.end(),
            [](const BoardCopy* a, const BoardCopy* b) { return a->rank < b->rank; });
  for (const BoardCopy* start : starts) {
    if (told.contains(start->process)) continue;
    std::vector<std::pair<const BoardCopy*, const WaitEntry*>> path;
    std::set<ProcessId> seen;
    auto walk = [&](auto&& self, const BoardCopy& at) -> bool {
      if (!seen.insert(at.process).second) return false;
      for (const WaitEntry& wait : at.waits) {
        const auto next = by_process.find(wait.peer);
        if (next == by_process.end() || wait.one_of_many) continue;
        path.emplace_back(&at, &wait);
        if (next->second == start || self(self, *next->second)) return true;
        path.pop_back();
      }
      return false;
    };
    if (!walk(walk, *start)) continue;
    text += "these wait for each other: ";
    for (const auto& [board, wait] : path) {
      if (board != start) text += "; ";
      text += "rank " + std::to_string(board->rank) + " waits " + describe(*wait, now_ns);
      told.insert(board->process);
    }
    text += "\n";
  }
  return text;
}

}  // namespace mooncake_mpi
