// What `info` and `doctor` show of the engine.
#include "bindings/inspection.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <vector>

#include "bindings/communicator.h"
#include "bindings/runtime.h"
#include "drivers/verbs/system_provider.h"
#include "transport/verbs/verbs_transport.h"

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
    case Operation::Stage::kCopying:
      return "copying";
    case Operation::Stage::kStreaming:
      return "streaming";
    case Operation::Stage::kReading:
      return "reading";
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

const char* link_name(verbs_driver::LinkLayer link) {
  return link == verbs_driver::LinkLayer::kEthernet ? "Ethernet" : "InfiniBand";
}

const char* gid_type_name(verbs_driver::GidType type) {
  switch (type) {
    case verbs_driver::GidType::kInfiniBand:
      return "IB";
    case verbs_driver::GidType::kRoceV1:
      return "RoCE v1";
    case verbs_driver::GidType::kRoceV2:
      return "RoCE v2";
  }
  return "unknown";
}

nb::list rdma_ports() {
  nb::list result;
  auto provider = verbs_driver::open_system_provider();
  if (!provider) return result;
  auto ports = provider.value()->ports();
  if (!ports) return result;
  verbs::Config config;
  if (runtime().engine != nullptr) config = runtime().engine->config().verbs_config;
  for (const verbs::PortReport& report :
       verbs::survey(std::move(ports).value(), config, *linux_driver::system_memory_places())) {
    nb::dict entry;
    entry["device"] = report.port.device;
    entry["port"] = static_cast<int>(report.port.port);
    entry["state"] = report.port.state;
    entry["link"] = link_name(report.port.link);
    entry["mtu_bytes"] = report.port.mtu_bytes;
    entry["lid"] = static_cast<int>(report.port.lid);
    entry["numa_node"] = report.port.numa_node;
    entry["gid_index"] = report.gid_index;
    entry["trouble"] = report.trouble;
    entry["waits"] = report.waits;
    nb::list gids;
    for (const auto& gid : report.port.gids) {
      gids.append(nb::make_tuple(
          gid.index, nb::bytes(reinterpret_cast<const char*>(gid.gid.data()), gid.gid.size()),
          gid_type_name(gid.type)));
    }
    entry["gids"] = gids;
    result.append(entry);
  }
  return result;
}

}  // namespace

namespace {

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
  m.def("rdma_ports", &rdma_ports, nb::sig("def rdma_ports() -> list[dict[str, Any]]"),
        "The RDMA ports of this machine, and which of them are used.");
  m.def(
      "verbs_trouble",
      [] {
        return runtime().engine != nullptr ? runtime().engine->verbs_trouble() : std::string();
      },
      "Why this process has no verbs lane; empty when it has one.");
  m.def("pending", &pending, nb::sig("def pending() -> list[dict[str, Any]]"),
        "The operations under way.");
  m.def(
      "path_troubles",
      [](Communicator& c, int rank) { return runtime().engine->path_troubles(c.context(), rank); },
      "communicator"_a, "rank"_a,
      "Parts of the way to that rank that are not used, and why; the others carry its messages.");
  m.def(
      "lane_of",
      [](Communicator& c, int rank) { return runtime().engine->lane_of(c.context(), rank); },
      "communicator"_a, "rank"_a, "The lane that reaches a rank, or why there is none.");
  m.def(
      "cross_memory_with",
      [](Communicator& c, int rank) {
        return runtime().engine->cross_memory_with(c.context(), rank);
      },
      "communicator"_a, "rank"_a, "Whether that rank's memory can be read directly.");
}

}  // namespace mooncake_mpi::bindings
