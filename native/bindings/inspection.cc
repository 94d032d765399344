// What `info` and `doctor` show of the engine.
#include "bindings/inspection.h"

#include <nanobind/stl/string.h>

#include "bindings/communicator.h"
#include "bindings/runtime.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

nb::dict stats() {
  nb::dict result;
  if (runtime().engine == nullptr) return result;
  runtime().engine->inspect([&](Protocol& protocol) {
    const ProtocolCounters& counters = protocol.counters();
    result["eager_sent"] = counters.eager_sent;
    result["rendezvous_sent"] = counters.rendezvous_sent;
    result["unexpected_received"] = counters.unexpected_received;
    result["chunks_read"] = counters.chunks_read;
    result["chunks_written"] = counters.chunks_written;
    result["fragments_sent"] = counters.fragments_sent;
    result["packets_rejected"] = counters.packets_rejected;
    result["operations"] = protocol.operations().live();
    result["unexpected_bytes"] = protocol.unexpected().held_bytes();
    result["eager_limit_bytes"] = protocol.limits().eager_bytes;
    result["unexpected_limit_bytes"] = protocol.limits().unexpected_bytes;
  });
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
    case Operation::Stage::kDone:
      return "done";
  }
  return "unknown";
}

nb::list pending() {
  nb::list result;
  if (runtime().engine == nullptr) return result;
  runtime().engine->inspect([&](Protocol& protocol) {
    protocol.operations().for_each_live([&](const Operation& operation) {
      if (operation.stage == Operation::Stage::kDone) return;
      const bool send = operation.kind == Operation::Kind::kSend;
      nb::dict entry;
      entry["kind"] = send ? "send" : "receive";
      entry["stage"] = stage_name(operation.stage);
      entry["context"] = send ? operation.header.context : operation.context->number;
      entry["pid"] = operation.peer != nullptr ? nb::cast(operation.peer->address.pid) : nb::none();
      entry["source"] = send                             ? operation.header.source
                        : operation.source == kAnySource ? runtime().constants.any_source
                                                         : operation.source;
      entry["tag"] = send                       ? operation.header.tag
                     : operation.tag == kAnyTag ? runtime().constants.any_tag
                                                : operation.tag;
      entry["nbytes"] = operation.buffer.bytes;
      result.append(entry);
    });
  });
  return result;
}

}  // namespace

void define_inspection(nb::module_& m) {
  m.def("stats", &stats, nb::sig("def stats() -> dict[str, int]"),
        "Counters of this process's engine.");
  m.def("pending", &pending, nb::sig("def pending() -> list[dict[str, Any]]"),
        "The operations under way.");
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
