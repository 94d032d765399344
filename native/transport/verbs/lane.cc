#include "transport/verbs/lane.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "drivers/verbs/system_provider.h"
#include "transport/verbs/verbs_transport.h"

namespace mooncake_mpi::verbs {
Config read_config(const Settings& settings, Config config) {
  const std::vector<std::string> devices = settings.list("verbs_devices");
  if (!devices.empty()) config.devices = devices;
  settings.read("verbs_gid_index", config.gid_index);
  settings.read("verbs_mtu_bytes", config.mtu_bytes);
  settings.read("verbs_traffic_class", config.traffic_class);
  settings.read("verbs_service_level", config.service_level);
  settings.read("verbs_fragment_bytes", config.fragment_bytes);
  settings.read("verbs_registered_bytes", config.cached_bytes);
  if (const auto seconds = settings.number("verbs_timeout_s")) {
    config.timeout_ns = static_cast<std::uint64_t>(*seconds) * 1'000'000'000u;
  }
  return config;
}

Lane lane(Drivers drivers) {
  auto open = [drivers = std::move(drivers)](
                  const LaneContext& context) -> Result<std::unique_ptr<Transport>> {
    std::shared_ptr<verbs_driver::Provider> provider = drivers.provider;
    if (provider == nullptr) {
      auto system = verbs_driver::open_system_provider();
      if (!system) return system.failure();
      provider = std::move(system).value();
    }
    auto made = VerbsTransport::create(context.self, std::move(provider),
                                       read_config(context.settings, drivers.config),
                                       context.counters, drivers.places, context.copy.pool);
    if (!made) return made.failure();
    return std::unique_ptr<Transport>(std::move(made).value());
  };
  return {"verbs", VerbsTransport::kLane, false, true, std::move(open)};
}

}  // namespace mooncake_mpi::verbs
