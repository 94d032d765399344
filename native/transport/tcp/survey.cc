#include "transport/tcp/survey.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>

namespace mooncake_mpi::tcp {

using linux_driver::Interface;

namespace {

struct Subnet {
  IpAddress address;
  unsigned bits = 0;
};

// `10.1.0.0/16`; an address alone is that one.
std::optional<Subnet> parse_subnet(const std::string& text) {
  const std::size_t slash = text.find('/');
  const auto address = linux_driver::parse_ip_address(text.substr(0, slash));
  if (!address) return std::nullopt;
  Subnet subnet{*address, address->v6 ? 128u : 32u};
  if (slash == std::string::npos) return subnet;
  unsigned bits = 0;
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data() + slash + 1, end, bits);
  if (read.ec != std::errc{} || read.ptr != end || bits > subnet.bits) return std::nullopt;
  subnet.bits = bits;
  return subnet;
}

// Which of the settings' entries takes it; the size of the list: none.
std::size_t entry_of(const Interface& one, const Config& config) {
  for (std::size_t i = 0; i < config.interfaces.size(); ++i) {
    const std::string& entry = config.interfaces[i];
    if (entry == one.name) return i;
    const auto subnet = parse_subnet(entry);
    if (subnet && one.address.shares_prefix(subnet->address, subnet->bits)) return i;
  }
  return config.interfaces.size();
}

// How little it promises.
int doubts(const Interface& one) {
  if (one.address.is_loopback()) return 4;
  if (one.address.is_link_local()) return 3;
  if (one.bridge) return 2;
  return one.address.v6 ? 1 : 0;
}

constexpr const char* kDoubts[] = {"IPv4", "IPv6", "of containers or virtual machines: last",
                                   "link-local: last", "loopback: nothing else is there"};

}  // namespace

std::vector<AddressReport> survey(std::vector<Interface> interfaces, const Config& config) {
  const bool others = std::ranges::any_of(
      interfaces, [](const Interface& one) { return one.up && !one.address.is_loopback(); });
  std::vector<AddressReport> reports;
  std::vector<std::size_t> rank;
  for (Interface& one : interfaces) {
    AddressReport report;
    const std::size_t entry = entry_of(one, config);
    const int doubt = doubts(one);
    if (!one.up) {
      report.reason = "down";
    } else if (!config.interfaces.empty()) {
      report.chosen = entry < config.interfaces.size();
      report.reason = report.chosen ? "chosen by the settings" : "not among the chosen ones";
    } else if (one.address.is_loopback() && others) {
      report.reason = "loopback";
    } else {
      report.chosen = true;
      report.reason = kDoubts[doubt];
    }
    rank.push_back((report.chosen ? 0 : 10'000) + entry * 10 + static_cast<std::size_t>(doubt));
    report.interface = std::move(one);
    reports.push_back(std::move(report));
  }
  std::vector<std::size_t> order(reports.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return rank[i]; });
  std::vector<AddressReport> sorted;
  for (const std::size_t i : order)
    sorted.push_back(std::move(reports[i]));
  std::size_t chosen = 0;
  for (AddressReport& report : sorted) {
    if (!report.chosen || ++chosen <= wire::kMaxTcpEndpoints) continue;
    report.chosen = false;
    report.reason = "more addresses than fit";
  }
  return sorted;
}

std::string explain_none(const std::vector<AddressReport>& reports, const Config& config) {
  if (config.interfaces.empty()) return "no network interface is up";
  std::string wanted;
  for (const std::string& entry : config.interfaces)
    wanted += (wanted.empty() ? "" : ", ") + entry;
  std::string there;
  for (const AddressReport& report : reports) {
    if (!there.empty()) there += ", ";
    there += report.interface.name + " " + to_string(report.interface.address) +
             (report.interface.up ? "" : " (down)");
  }
  return "no interface or subnet " + wanted + " (MOONCAKE_MPI_TCP_INTERFACES) that is up; there " +
         (there.empty() ? "is none" : "are " + there);
}

wire::TcpEndpoint to_wire(const Endpoint& endpoint) {
  wire::TcpEndpoint to;
  to.family = endpoint.address.v6 ? 6 : 4;
  to.port = endpoint.port;
  to.address = endpoint.address.bytes;
  return to;
}

Endpoint from_wire(const wire::TcpEndpoint& endpoint) {
  return {{endpoint.family == 6, endpoint.address, 0}, endpoint.port};
}

std::vector<Endpoint> places_of(const std::vector<wire::TcpEndpoint>& peer,
                                const std::vector<AddressReport>& own) {
  std::vector<Endpoint> near;
  std::vector<Endpoint> far;
  for (const wire::TcpEndpoint& one : peer) {
    const Endpoint place = from_wire(one);
    if (place.address.v6 && place.address.is_link_local()) {
      for (const AddressReport& report : own) {
        const Interface& mine = report.interface;
        if (!report.chosen || !mine.address.v6 || !mine.address.is_link_local()) continue;
        Endpoint scoped = place;
        scoped.address.scope = mine.index;
        far.push_back(scoped);
      }
      continue;
    }
    const bool shares = std::ranges::any_of(own, [&](const AddressReport& report) {
      const Interface& mine = report.interface;
      // Every host may have the same bridge, and anybody is link-local.
      return report.chosen && !mine.bridge && !mine.address.is_link_local() &&
             mine.prefix_bits != 0 && mine.address.shares_prefix(place.address, mine.prefix_bits);
    });
    (shares ? near : far).push_back(place);
  }
  near.insert(near.end(), far.begin(), far.end());
  return near;
}

}  // namespace mooncake_mpi::tcp
