// Which of this host's addresses peers may call, in which order, and why not the others. Any
// thread; no state.
#pragma once

#include <string>
#include <vector>

#include "drivers/linux/sockets.h"
#include "transport/tcp/config.h"
#include "wire/tcp.h"

namespace mooncake_mpi::tcp {

using linux_driver::Endpoint;
using linux_driver::IpAddress;

struct AddressReport {
  linux_driver::Interface interface;
  bool chosen = false;
  std::string reason;  // why it is chosen, or is not
};

// The chosen ones first, the best before the others.
std::vector<AddressReport> survey(std::vector<linux_driver::Interface> interfaces,
                                  const Config& config);
// Why none is chosen, in one line.
std::string explain_none(const std::vector<AddressReport>& reports, const Config& config);

wire::TcpEndpoint to_wire(const Endpoint& endpoint);
Endpoint from_wire(const wire::TcpEndpoint& endpoint);

// Where to call a peer, the most promising first: what is in a network of this host, then in the
// peer's own order. A link-local address means one for each interface that has such.
std::vector<Endpoint> places_of(const std::vector<wire::TcpEndpoint>& peer,
                                const std::vector<AddressReport>& own);

}  // namespace mooncake_mpi::tcp
