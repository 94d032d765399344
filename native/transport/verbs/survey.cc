#include "transport/verbs/survey.h"

#include <algorithm>
#include <utility>

#include "transport/verbs/rail.h"

namespace mooncake_mpi::verbs {
namespace {

bool is_chosen(const verbs_driver::PortInfo& port, const Config& config) {
  if (config.devices.empty()) return true;
  return std::any_of(config.devices.begin(), config.devices.end(), [&](const std::string& name) {
    return name == port.device || name == port.device + ":" + std::to_string(port.port);
  });
}

PortReport judge(verbs_driver::PortInfo port, const Config& config) {
  PortReport report;
  Result<verbs_driver::GidEntry> gid = Rail::choose_gid(port, config);
  if (gid) report.gid_index = static_cast<int>(gid.value().index);
  report.chosen = is_chosen(port, config);
  if (!report.chosen) {
    report.trouble = "not among the chosen devices";
  } else if (!port.active && (!gid || port.link != verbs_driver::LinkLayer::kEthernet)) {
    report.trouble = "port " + port.state;
  } else if (!gid) {
    report.trouble = gid.failure().message;
  } else {
    report.waits = !port.active;
  }
  report.port = std::move(port);
  return report;
}

}  // namespace

std::vector<PortReport> survey(std::vector<verbs_driver::PortInfo> ports, const Config& config,
                               const linux_driver::MemoryPlaces& places) {
  std::vector<PortReport> reports;
  std::vector<std::size_t> usable;
  const int node = places.several() ? places.own_node() : -1;
  for (verbs_driver::PortInfo& port : ports) {
    PortReport report = judge(std::move(port), config);
    report.distance = places.distance(report.port.numa_node, node);
    if (report.trouble.empty()) usable.push_back(reports.size());
    reports.push_back(std::move(report));
  }
  std::stable_sort(usable.begin(), usable.end(), [&](std::size_t one, std::size_t other) {
    return std::pair(reports[one].waits, reports[one].distance) <
           std::pair(reports[other].waits, reports[other].distance);
  });
  for (std::size_t i = wire::kMaxRails; i < usable.size(); ++i)
    reports[usable[i]].trouble = "four other ports are used";
  return reports;
}

}  // namespace mooncake_mpi::verbs
