// What `info` and `doctor` show of the lanes and the RDMA ports under them. With the interpreter's
// lock (GIL) held.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>

#include "bindings/communicator.h"
#include "bindings/module.h"
#include "bindings/runtime.h"
#include "drivers/verbs/system_provider.h"
#include "engine/lanes.h"
#include "transport/tcp/lane.h"
#include "transport/tcp/survey.h"
#include "transport/verbs/lane.h"
#include "transport/verbs/survey.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

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
  if (runtime().engine != nullptr) config = verbs::read_config(runtime().engine->config().settings);
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

nb::list tcp_addresses() {
  tcp::Config config;
  if (runtime().engine != nullptr) config = tcp::read_config(runtime().engine->config().settings);
  nb::list result;
  for (const tcp::AddressReport& report :
       tcp::survey(linux_driver::system_network()->interfaces(), config)) {
    nb::dict entry;
    entry["interface"] = report.interface.name;
    entry["address"] = linux_driver::to_string(report.interface.address);
    entry["chosen"] = report.chosen;
    entry["reason"] = report.reason;
    result.append(entry);
  }
  return result;
}

}  // namespace

void define_lane_inspection(nb::module_& m) {
  m.def("rdma_ports", &rdma_ports, nb::sig("def rdma_ports() -> list[dict[str, Any]]"),
        "The RDMA ports of this machine, and which of them are used.");
  m.def("tcp_addresses", &tcp_addresses, nb::sig("def tcp_addresses() -> list[dict[str, Any]]"),
        "The addresses of this host, the best first, and which of them other hosts are told.");
  m.def(
      "route_to",
      [](Communicator& c, int rank) {
        return runtime().engine->ways().route_to(c.context(), rank);
      },
      "communicator"_a, "rank"_a,
      "From where to where messages to that rank go, if its lane has a word for it.");
  m.def(
      "missing_lanes",
      [] {
        nb::dict missing;
        if (runtime().engine == nullptr) return missing;
        for (const MissingLane& lane : runtime().engine->missing_lanes())
          missing[lane.name.c_str()] = lane.reason;
        return missing;
      },
      nb::sig("def missing_lanes() -> dict[str, str]"),
      "The lanes that this process does without, and why.");
  nb::list names;
  for (const Lane& lane : all_lanes())
    names.append(lane.name);
  m.attr("LANES") = nb::tuple(names);
  m.def(
      "path_troubles",
      [](Communicator& c, int rank) {
        return runtime().engine->ways().troubles(c.context(), rank);
      },
      "communicator"_a, "rank"_a,
      "Parts of the way to that rank that are not used, and why; the others carry its messages.");
  m.def(
      "lane_of",
      [](Communicator& c, int rank) { return runtime().engine->lane_of(c.context(), rank); },
      "communicator"_a, "rank"_a, "The lane that reaches a rank, or why there is none.");
  m.def(
      "cross_memory_with",
      [](Communicator& c, int rank) {
        return runtime().engine->ways().cross_memory_with(c.context(), rank);
      },
      "communicator"_a, "rank"_a, "Whether that rank's memory can be read directly.");
}

}  // namespace mooncake_mpi::bindings
