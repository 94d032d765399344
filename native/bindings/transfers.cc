// What went to each peer and came from it, by path. With the interpreter's lock (GIL) held; the
// engine's own is given back before Python objects are made.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <vector>

#include "bindings/checks.h"
#include "bindings/module.h"
#include "bindings/runtime.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

nb::dict by_path(const Transfers::ByPath& paths) {
  nb::dict result;
  for (std::size_t path = 0; path < paths.size(); ++path) {
    const Traffic& traffic = paths[path];
    if (traffic.messages == 0) continue;
    result[kTransferPathNames[path].data()] = nb::make_tuple(traffic.messages, traffic.bytes);
  }
  return result;
}

nb::list transfers(const Communicator* communicator) {
  nb::list result;
  if (runtime().engine == nullptr) return result;
  if (communicator != nullptr) require_usable(*communicator);
  const Context* context = communicator != nullptr ? &communicator->context() : nullptr;
  const auto all = runtime().engine->ways().transfers(context);
  for (const PeerTransfers& peer : all) {
    nb::dict entry;
    entry["rank"] = peer.rank >= 0 ? nb::cast(peer.rank) : nb::none();
    entry["pid"] = peer.pid;
    entry["near"] = peer.is_near;
    entry["lane"] = peer.lane;
    entry["sent"] = by_path(peer.transfers.sent());
    entry["received"] = by_path(peer.transfers.received());
    entry["troubles"] = peer.troubles;
    result.append(entry);
  }
  return result;
}

}  // namespace

void define_transfers(nb::module_& m) {
  m.def("transfers", &transfers,
        nb::sig("def transfers(communicator: Communicator | None) -> list[dict[str, Any]]"),
        "communicator"_a.none(),
        "Messages and bytes to each rank and from it, by path; without a communicator, of each "
        "process that this one knows.");
}

}  // namespace mooncake_mpi::bindings
