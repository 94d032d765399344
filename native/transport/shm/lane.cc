#include "transport/shm/lane.h"

#include <cerrno>
#include <utility>

#include "transport/shm/shm_transport.h"

namespace mooncake_mpi::shm {
namespace {

std::unique_ptr<linux_driver::ProcessMemory> memory_of(const Drivers& drivers, bool allowed) {
  if (drivers.memory) return drivers.memory();
  if (allowed) return std::make_unique<linux_driver::SystemProcessMemory>();
  return std::make_unique<linux_driver::RefusedProcessMemory>(EPERM);
}

std::unique_ptr<RegionMapper> mapper_of(const Drivers& drivers, bool allowed) {
  if (drivers.mapper) return drivers.mapper();
  if (allowed) return std::make_unique<SystemRegionMapper>();
  return std::make_unique<RefusingRegionMapper>();
}

}  // namespace

Lane lane(Drivers drivers) {
  auto open = [drivers = std::move(drivers)](
                  const LaneContext& context) -> Result<std::unique_ptr<Transport>> {
    auto made = ShmTransport::create(context.self, memory_of(drivers, context.settings.flag("cma")),
                                     mapper_of(drivers, context.settings.flag("mapping")),
                                     context.copy, context.counters);
    if (!made) return made.failure();
    return std::unique_ptr<Transport>(std::move(made).value());
  };
  return {"shm", ShmTransport::kLane, false, false, std::move(open)};
}

}  // namespace mooncake_mpi::shm
