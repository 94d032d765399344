// Which ports become rails, and which of them a message takes. One thread plays every rank.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/clock.h"
#include "drivers/linux/fake_memory_places.h"
#include "party.h"
#include "transport/verbs/survey.h"
#include "transport/verbs/verbs_transport.h"
#include "verbs_job.h"

namespace mooncake_mpi::testing {
namespace {

using linux_driver::FakeMemoryPlaces;
using verbs_driver::FakeFabric;
using verbs_driver::PortInfo;

PortInfo port(const std::string& device, int node, bool active = true) {
  PortInfo info;
  info.device = device;
  info.active = active;
  info.state = active ? "active" : "down";
  info.link = verbs_driver::LinkLayer::kEthernet;
  info.numa_node = node;
  info.gids = {{.index = 3, .gid = {std::byte{0xfd}}, .type = verbs_driver::GidType::kRoceV2}};
  return info;
}

TEST(VerbsSurvey, OfManyPortsTheNearestAreUsedAndTheRestNamed) {
  std::vector<PortInfo> ports;
  for (int i = 0; i < 8; ++i)
    ports.push_back(port("nic" + std::to_string(i), i / 4));
  for (int node = 0; node < 2; ++node) {
    const auto reports = verbs::survey(ports, {}, FakeMemoryPlaces(node));
    ASSERT_EQ(reports.size(), 8u);
    for (int i = 0; i < 8; ++i) {
      const std::string& trouble = reports[static_cast<std::size_t>(i)].trouble;
      EXPECT_EQ(trouble.empty(), i / 4 == node) << i << ": " << trouble;
    }
  }
}

TEST(VerbsSurvey, SaysWhyAPortIsNotUsed) {
  std::vector<PortInfo> ports{port("up", 0), port("down", 0, false), port("bare", 0),
                              port("cold", 0, false), port("other", 0)};
  ports[2].gids.clear();
  ports[3].gids.clear();
  verbs::Config config;
  config.devices = {"up", "down:1", "bare", "cold"};
  const auto reports = verbs::survey(ports, config, FakeMemoryPlaces(0));
  EXPECT_EQ(reports[0].trouble, "");
  EXPECT_EQ(reports[1].trouble, "");
  EXPECT_TRUE(reports[1].waits);
  EXPECT_EQ(reports[2].trouble, "no GID: has its network interface an address?");
  EXPECT_EQ(reports[3].trouble, "port down");
  EXPECT_EQ(reports[4].trouble, "not among the chosen devices");
}

TEST(VerbsRails, APortThatIsDownAtFirstIsUsedOnceItIsUp) {
  for (int process = 0; process < 2; ++process) {
    Job job(kTwoRails, 2, {}, [&](FakeFabric& fabric) { fabric.begin_with_port_down(process, 1); });
    exchange(job, 1, 300'000);
    EXPECT_EQ(job.fabric().counters().reads_by_rail[1], 0u);
    EXPECT_EQ(job[process].path_troubles(1 - process),
              std::vector<std::string>{"fake1:1: port down"});
    job.fabric().set_port(process, 1, true);
    const auto end = now_ns() + 20'000'000'000u;
    while (job.fabric().counters().reads_by_rail[1] == 0 && now_ns() < end)
      exchange(job, 2, 300'000);
    EXPECT_NE(job.fabric().counters().reads_by_rail[1], 0u);
    EXPECT_TRUE(job.run_until([&] { return job[process].path_troubles(1 - process).empty(); }));
  }
}

TEST(VerbsRails, WithoutAnyPortThatIsUpThereIsNoLane) {
  FakeFabric fabric;
  fabric.begin_with_port_down(0, 0);
  wire::Address address;
  address.uid[0] = std::byte{1};
  address.job_secret[0] = std::byte{1};
  MoverCounters counters;
  const auto made = verbs::VerbsTransport::create(address, fabric.make_provider(1), {}, counters);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.failure().message, "fake0:1 port down");
}

TEST(VerbsRails, SixPortsOfAProcessAreFourRails) {
  Job job({.name = "VerbsSixPorts", .kind = Lane::Kind::kVerbs, .rails = 6}, 2);
  exchange(job, 1, 100);
  EXPECT_TRUE(job.run_until([&] { return job[1].path_troubles(0).empty(); }));
  exchange(job, 2, 2'000'000);
  const auto reads = job.fabric().counters().reads_by_rail;
  EXPECT_EQ(std::ranges::count_if(reads, [](std::uint64_t count) { return count != 0; }), 4);
}

TEST(VerbsRails, AMessageTakesTheRailsNearItsBufferAndOthersWhenTheseAreFull) {
  for (const int near : {0, 1}) {
    Lane lane = kTwoRails;
    lane.memory_node = near;
    Job job(lane, 2, {}, [](FakeFabric& fabric) { fabric.spread_over_nodes(); });
    exchange(job, 1, 100);
    ASSERT_TRUE(job.run_until([&] { return job[1].path_troubles(0).empty(); }));
    exchange(job, 2, 100'000);
    auto reads = job.fabric().counters().reads_by_rail;
    const auto other = static_cast<std::size_t>(1 - near);
    EXPECT_GT(reads[static_cast<std::size_t>(near)], 0u);
    EXPECT_EQ(reads[other], 0u);
    exchange(job, 3, 2'000'000);
    reads = job.fabric().counters().reads_by_rail;
    EXPECT_GT(reads[other], 0u);
    EXPECT_GE(reads[static_cast<std::size_t>(near)], reads[other]);
  }
}

}  // namespace
}  // namespace mooncake_mpi::testing
