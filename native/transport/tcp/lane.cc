#include "transport/tcp/lane.h"

#include <charconv>
#include <string>
#include <utility>

#include "transport/tcp/tcp_transport.h"

namespace mooncake_mpi::tcp {

Config read_config(const Settings& settings, Config config) {
  const std::vector<std::string> interfaces = settings.list("tcp_interfaces");
  if (!interfaces.empty()) config.interfaces = interfaces;
  // `FIRST-LAST`, which the package has checked.
  const std::string ports = settings.text("tcp_ports");
  if (const std::size_t dash = ports.find('-'); dash != std::string::npos) {
    std::from_chars(ports.data(), ports.data() + dash, config.first_port);
    std::from_chars(ports.data() + dash + 1, ports.data() + ports.size(), config.last_port);
  }
  if (const auto encrypts = settings.number("tls")) config.encrypts = *encrypts != 0;
  settings.read("tcp_streams", config.streams);
  settings.read("tcp_stream_bytes", config.stream_bytes);
  if (const auto seconds = settings.number("tcp_timeout_s")) {
    config.timeout_ns = static_cast<std::uint64_t>(*seconds) * 1'000'000'000u;
  }
  return config;
}

Lane lane(Drivers drivers) {
  auto open = [drivers = std::move(drivers)](
                  const LaneContext& context) -> Result<std::unique_ptr<Transport>> {
    auto network = drivers.network != nullptr ? drivers.network : linux_driver::system_network();
    auto made = TcpTransport::create(context.self, std::move(network),
                                     read_config(context.settings, drivers.config));
    if (!made) return made.failure();
    return std::unique_ptr<Transport>(std::move(made).value());
  };
  return {.name = "tcp", .id = kLane, .optional = true, .open = std::move(open)};
}

}  // namespace mooncake_mpi::tcp
