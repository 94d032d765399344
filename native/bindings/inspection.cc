// What `info`, `doctor` and `hang` show of the engine: its counters, operations and waits. With the
// interpreter's lock (GIL) held; the engine's own is taken to look, and given back before Python
// objects are made.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>
#include <vector>

#include "bindings/module.h"
#include "bindings/runtime.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

// Python objects are made only after the engine's lock was given back: making one may collect
// garbage, and a request that is collected takes the lock.

nb::dict stats() {
  nb::dict result;
  if (runtime().engine == nullptr) return result;
  ProtocolCounters counters;
  ProtocolLimits limits;
  std::size_t operations = 0;
  std::size_t unexpected_bytes = 0;
  runtime().engine->inspect([&](Protocol& protocol) {
    counters = protocol.counters();
    limits = protocol.limits();
    operations = protocol.operations().live();
    unexpected_bytes = protocol.unexpected().held_bytes();
  });
  result["eager_sent"] = counters.eager_sent;
  result["rendezvous_sent"] = counters.rendezvous_sent;
  result["unexpected_received"] = counters.unexpected_received;
  result["chunks_read"] = counters.chunks_read;
  result["chunks_written"] = counters.chunks_written;
  result["chunks_mapped"] = counters.chunks_mapped;
  result["fragments_sent"] = counters.fragments_sent;
  result["remote_reads"] = counters.remote_reads;
  result["packets_rejected"] = counters.packets_rejected;
  result["operations"] = operations;
  result["unexpected_bytes"] = unexpected_bytes;
  result["eager_limit_bytes"] = limits.eager_bytes;
  result["unexpected_limit_bytes"] = limits.unexpected_bytes;
  result["oversubscribed"] = runtime().engine->oversubscribed();
  return result;
}

const char* stage_name(Operation::Stage stage) {
  switch (stage) {
    case Operation::Stage::kIdle:
      return "idle";
    case Operation::Stage::kQueued:
      return "queued";
    case Operation::Stage::kPosted:
      return "posted";
    case Operation::Stage::kAnnounced:
      return "announced";
    case Operation::Stage::kMoving:
      return "moving";
    case Operation::Stage::kStreaming:
      return "streaming";
    case Operation::Stage::kLanding:
      return "landing";
    case Operation::Stage::kDone:
      return "done";
  }
  return "unknown";
}

struct Pending {
  bool send;
  Operation::Stage stage;
  std::uint32_t context;
  std::int32_t pid;
  std::int32_t source;
  std::int32_t tag;
  std::uint64_t bytes;
};

std::vector<Pending> collect_pending() {
  const Constants& constants = runtime().constants;
  std::vector<Pending> found;
  runtime().engine->inspect([&](Protocol& protocol) {
    protocol.operations().for_each_live([&](const Operation& operation) {
      if (operation.stage == Operation::Stage::kDone) return;
      const bool send = operation.kind == Operation::Kind::kSend;
      std::int32_t source = send ? operation.header.source : operation.source;
      std::int32_t tag = send ? operation.header.tag : operation.tag;
      if (source == kAnySource) source = constants.any_source;
      if (tag == kAnyTag) tag = constants.any_tag;
      found.push_back({send, operation.stage,
                       send ? operation.header.context : operation.context->number,
                       operation.peer != nullptr ? operation.peer->address.pid : 0, source, tag,
                       operation.buffer.bytes});
    });
  });
  return found;
}

nb::list pending() {
  nb::list result;
  if (runtime().engine == nullptr) return result;
  for (const Pending& operation : collect_pending()) {
    nb::dict entry;
    entry["kind"] = operation.send ? "send" : "receive";
    entry["stage"] = stage_name(operation.stage);
    entry["context"] = operation.context;
    entry["pid"] = operation.pid != 0 ? nb::cast(operation.pid) : nb::none();
    entry["source"] = operation.source;
    entry["tag"] = operation.tag;
    entry["nbytes"] = operation.bytes;
    result.append(entry);
  }
  return result;
}

nb::dict board_of(const BoardCopy& board) {
  nb::dict result;
  result["pid"] = board.pid;
  result["rank"] = board.rank;
  result["ask_descriptor"] = board.ask_descriptor;
  result["ask_inode"] = board.ask_inode;
  result["reports"] = board.reports;
  result["report"] = board.report;
  nb::list waits;
  for (const WaitEntry& wait : board.waits)
    waits.append(describe(wait, now_ns()));
  result["waits"] = waits;
  return result;
}

}  // namespace

void define_inspection(nb::module_& m) {
  m.def(
      "boards",
      [](const std::vector<std::pair<int, int>>& segments) {
        std::vector<BoardCopy> boards;
        nb::list dicts;
        for (const auto& [pid, descriptor] : segments) {
          BoardCopy board = read_board(pid, descriptor);
          if (board.pid == 0) continue;
          dicts.append(board_of(board));
          boards.push_back(std::move(board));
        }
        return std::make_pair(dicts, describe_cycles(boards, now_ns()));
      },
      nb::sig(
          "def boards(segments: Sequence[tuple[int, int]]) -> tuple[list[dict[str, Any]], str]"),
      "segments"_a,
      "What processes wait for, given as (pid, descriptor of the segment), and those that wait for "
      "each other, as text. Needs no engine.");
  m.def(
      "explain", [] { return runtime().engine != nullptr ? runtime().engine->explain() : ""; },
      "What this process waits for, and the heads of its queues.");
  m.def("stats", &stats, nb::sig("def stats() -> dict[str, int]"),
        "Counters of this process's engine.");
  m.def("pending", &pending, nb::sig("def pending() -> list[dict[str, Any]]"),
        "The operations under way.");
}

}  // namespace mooncake_mpi::bindings
