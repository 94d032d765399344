// Which addresses peers are told, and in which order they are called.
#include <gtest/gtest.h>

#include "transport/tcp/survey.h"

namespace mooncake_mpi::testing {
namespace {

using linux_driver::Interface;

Interface on(const char* name, const char* address, unsigned bits, bool up = true,
             bool bridge = false) {
  Interface one;
  one.name = name;
  one.index = 3;
  one.address = *linux_driver::parse_ip_address(address);
  one.prefix_bits = bits;
  one.up = up;
  one.bridge = bridge;
  return one;
}

std::string chosen(const std::vector<tcp::AddressReport>& reports) {
  std::string text;
  for (const auto& report : reports) {
    if (report.chosen) text += to_string(report.interface.address) + " ";
  }
  return text;
}

const std::vector<Interface> kHost = {
    on("lo", "127.0.0.1", 8),      on("lo", "::1", 128),
    on("eth0", "fe80::1", 64),     on("docker0", "172.17.0.1", 16, true, true),
    on("eth0", "fd00::7", 64),     on("eth0", "192.0.2.7", 24),
    on("ib0", "10.4.0.7", 16),     on("eth9", "10.9.0.7", 16, false),
    on("eth1", "169.254.1.1", 16),
};

TEST(TcpSurvey, TheBestAddressesComeFirstAndTheDoubtfulOnesLast) {
  EXPECT_EQ(chosen(tcp::survey(kHost, {})),
            "192.0.2.7 10.4.0.7 fd00::7 172.17.0.1 fe80::1 169.254.1.1 ");
}

TEST(TcpSurvey, LoopbackIsForHostsThatHaveNothingElse) {
  EXPECT_EQ(chosen(tcp::survey({on("lo", "127.0.0.1", 8), on("eth0", "192.0.2.7", 24, false)}, {})),
            "127.0.0.1 ");
}

TEST(TcpSurvey, InterfacesAndSubnetsAreChosenInTheOrderOfTheSettings) {
  tcp::Config config;
  config.interfaces = {"10.4.0.0/15", "eth0"};
  EXPECT_EQ(chosen(tcp::survey(kHost, config)), "10.4.0.7 192.0.2.7 fd00::7 fe80::1 ");
  config.interfaces = {"lo"};
  EXPECT_EQ(chosen(tcp::survey(kHost, config)), "127.0.0.1 ::1 ");
  config.interfaces = {"eth9"};
  const auto none = tcp::survey(kHost, config);
  EXPECT_EQ(chosen(none), "");
  EXPECT_NE(tcp::explain_none(none, config).find("eth9 10.9.0.7 (down)"), std::string::npos);
}

TEST(TcpSurvey, WhatSharesANetworkWithThisHostIsCalledFirst) {
  const auto own = tcp::survey(kHost, {});
  std::vector<wire::TcpEndpoint> peer;
  for (const char* address : {"198.51.100.1", "172.17.0.1", "10.4.99.1", "fe80::9", "192.0.2.9"}) {
    peer.push_back(tcp::to_wire({*linux_driver::parse_ip_address(address), 99}));
  }
  std::string order;
  for (const auto& place : tcp::places_of(peer, own))
    order += to_string(place) + " ";
  EXPECT_EQ(order, "10.4.99.1:99 192.0.2.9:99 198.51.100.1:99 172.17.0.1:99 [fe80::9]:99 ");
  EXPECT_EQ(tcp::places_of(peer, own).back().address.scope, 3u);
}

TEST(TcpSurvey, PrefixesAreComparedBitByBit) {
  const auto address = [](const char* text) { return *linux_driver::parse_ip_address(text); };
  EXPECT_TRUE(address("10.1.2.3").shares_prefix(address("10.1.3.9"), 23));
  EXPECT_FALSE(address("10.1.2.3").shares_prefix(address("10.1.3.9"), 24));
  EXPECT_TRUE(address("10.1.2.3").shares_prefix(address("99.1.3.9"), 0));
  EXPECT_FALSE(address("10.1.2.3").shares_prefix(address("fd00::1"), 0));
  EXPECT_FALSE(linux_driver::parse_ip_address("10.1.2").has_value());
}

}  // namespace
}  // namespace mooncake_mpi::testing
