// A peer's regions: mapped once, within bounds, never the wrong file. One thread plays both
// processes.
#include "transport/shm/peer_regions.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>

#include "memory/arena.h"

namespace mooncake_mpi::shm {
namespace {

constexpr std::size_t kPage = Arena::kPage;

// Mappings of arenas in this process.
int arena_mappings() {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);)
    count += line.find("mooncake_mpi arena") != std::string::npos ? 1 : 0;
  return count;
}

class CountingMapper final : public RegionMapper {
 public:
  Result<linux_driver::Mapping> map(pid_t pid, RegionId region) override {
    ++calls;
    if (refuse) return Failure{Error::kNoMemory, "refused"};
    return system_.map(pid, region);
  }
  int calls = 0;
  bool refuse = false;

 private:
  SystemRegionMapper system_;
};

class Regions : public ::testing::Test {
 protected:
  static std::unique_ptr<Arena> arena(std::uint32_t serial, std::size_t pages = 16) {
    return std::move(Arena::create(serial, pages * kPage)).value();
  }
  static RemoteMemory at(const Arena& arena, const std::byte* address) {
    return {reinterpret_cast<std::uint64_t>(address), arena.region()};
  }

  CountingMapper mapper;
  PeerRegions regions{mapper, getpid()};
};

TEST_F(Regions, BytesOfThePeerAreSeenAndWrittenThroughOneMapping) {
  auto owner = arena(1);
  std::byte* address = owner->allocate(2 * kPage, false).address;
  std::memset(address, 7, 2 * kPage);
  std::byte* seen = regions.find(at(*owner, address), 2 * kPage);
  ASSERT_NE(seen, nullptr);
  EXPECT_NE(seen, address);
  EXPECT_EQ(std::memcmp(seen, address, 2 * kPage), 0);
  seen[5] = std::byte{9};
  EXPECT_EQ(address[5], std::byte{9});
  EXPECT_EQ(regions.find(at(*owner, address + 100), 1), seen + 100);
  EXPECT_EQ(mapper.calls, 1);
}

TEST_F(Regions, WhatLiesOutsideIsNotReached) {
  auto owner = arena(1);
  std::byte* address = owner->allocate(16 * kPage, false).address;
  EXPECT_NE(regions.find(at(*owner, address), 16 * kPage), nullptr);
  EXPECT_EQ(regions.find(at(*owner, address), 16 * kPage + 1), nullptr);
  EXPECT_EQ(regions.find(at(*owner, address), UINT64_MAX), nullptr);
  EXPECT_EQ(regions.find(at(*owner, address + 17 * kPage), 1), nullptr);
  EXPECT_EQ(regions.find(at(*owner, owner->begin()), 1), nullptr) << "the header";
  EXPECT_EQ(regions.find(at(*owner, owner->begin() - 1), 1), nullptr);
  EXPECT_EQ(regions.find({UINT64_MAX, owner->region()}, 2), nullptr);
  EXPECT_EQ(regions.find({0, owner->region()}, 1), nullptr);
}

TEST_F(Regions, MemoryThatIsInNoRegionIsNotReached) {
  int local = 0;
  EXPECT_EQ(regions.find({reinterpret_cast<std::uint64_t>(&local), 0}, 4), nullptr);
  EXPECT_EQ(mapper.calls, 0);
}

TEST_F(Regions, ARegionThatItsOwnerGaveUpIsUnmappedAtTheNextTransfer) {
  const int before = arena_mappings();
  auto first = arena(1);
  auto second = arena(2);
  std::byte* address = second->allocate(kPage, false).address;
  ASSERT_NE(regions.find(at(*first, first->allocate(kPage, false).address), 1), nullptr);
  ASSERT_NE(regions.find(at(*second, address), 1), nullptr);
  EXPECT_EQ(arena_mappings(), before + 4);
  first.reset();
  ASSERT_NE(regions.find(at(*second, address), 1), nullptr);
  EXPECT_EQ(regions.size(), 1u);
  EXPECT_EQ(arena_mappings(), before + 2);
}

TEST_F(Regions, ADescriptorThatMeansAnotherFileByNowIsNotMapped) {
  auto owner = arena(1);
  const RemoteMemory gone = at(*owner, owner->allocate(kPage, false).address);
  const int descriptor = descriptor_of(gone.region);
  owner.reset();
  EXPECT_EQ(regions.find(gone, 1), nullptr) << "closed";

  const auto take_its_place = [&](int other) {
    ASSERT_GE(other, 0);
    if (other == descriptor) return;
    ASSERT_EQ(dup2(other, descriptor), descriptor);
    close(other);
  };
  PeerRegions again(mapper, getpid());
  take_its_place(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(PeerRegions(mapper, getpid()).find(gone, 1), nullptr) << "a file that is not ours";
  close(descriptor);

  auto memory = std::move(linux_driver::SharedMemory::create("other", 64 * kPage)).value();
  ASSERT_EQ(dup2(memory.descriptor(), descriptor), descriptor);
  EXPECT_EQ(PeerRegions(mapper, getpid()).find(gone, 1), nullptr) << "memory of another kind";
  if (memory.descriptor() != descriptor) close(descriptor);
}

TEST_F(Regions, AnotherRegionBehindTheSameDescriptorIsNotMapped) {
  auto owner = arena(1);
  const RemoteMemory gone = at(*owner, owner->allocate(kPage, false).address);
  owner.reset();
  auto successor = arena(2);
  ASSERT_EQ(descriptor_of(successor->region()), descriptor_of(gone.region));
  EXPECT_EQ(regions.find(gone, 1), nullptr);
  EXPECT_NE(regions.find(at(*successor, successor->allocate(kPage, false).address), 1), nullptr);
}

TEST_F(Regions, WhatCouldNotBeMappedIsTriedAgainLaterButNotForEveryChunk) {
  auto owner = arena(1);
  const RemoteMemory memory = at(*owner, owner->allocate(kPage, false).address);
  mapper.refuse = true;
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(regions.find(memory, 1), nullptr);
  EXPECT_LT(mapper.calls, 50);
  mapper.refuse = false;
  usleep(150'000);
  EXPECT_NE(regions.find(memory, 1), nullptr);
}

TEST_F(Regions, FreedMemoryGoesBackEvenWhilePeersMapIt) {
  auto owner = arena(1, 300);
  std::byte* address = owner->allocate(300 * kPage, false).address;
  std::memset(address, 1, 300 * kPage);
  std::byte* seen = regions.find(at(*owner, address), 300 * kPage);
  ASSERT_NE(seen, nullptr);
  EXPECT_EQ(seen[299 * kPage], std::byte{1});
  owner.reset();
  EXPECT_EQ(seen[299 * kPage], std::byte{0}) << "the pages of the file are gone";
}

}  // namespace
}  // namespace mooncake_mpi::shm
