// The two kinds of parties, made and connected. For party.cc.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "party.h"

namespace mooncake_mpi::testing {

using Parties = std::vector<std::unique_ptr<Party>>;

// Engines, over a lane of theirs.
Parties make_engine_parties(const Lane& lane, verbs_driver::FakeFabric& fabric,
                            linux_driver::FakeInternet& internet, const ProtocolLimits& limits,
                            int size);
// Protocols over the fake lane.
Parties make_fake_parties(FakeNetwork& network, const ProtocolLimits& limits, int size);

template <class T>
T take(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.failure().message;
    std::abort();
  }
  return std::move(result).value();
}

// What an address goes through on its way over MPI.
inline wire::Address over_the_wire(const wire::Address& address) {
  const auto decoded = wire::decode_address(wire::encode(address));
  EXPECT_TRUE(decoded.address.has_value()) << decoded.reason;
  return decoded.address.value_or(address);
}

template <class Concrete>
void connect(const Parties& parties) {
  std::vector<wire::Address> members;
  for (const auto& party : parties) {
    members.push_back(over_the_wire(static_cast<Concrete&>(*party).address()));
  }
  for (const auto& party : parties)
    static_cast<Concrete&>(*party).activate(members);
}

}  // namespace mooncake_mpi::testing
