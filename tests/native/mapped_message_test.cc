// Messages between buffers that both processes map.
#include <cstring>
#include <vector>

#include "effort.h"
#include "lanes.h"
#include "transport/shm/peer_regions.h"

namespace mooncake_mpi::testing {
namespace {

constexpr Lane kUnmapped{"Shm", Lane::Kind::kShm, {}, false, false};
constexpr Lane kMapped{"ShmMapped", Lane::Kind::kShm, {}, true, true};
constexpr Lane kMappedAlone{"ShmMappedWithoutCma", Lane::Kind::kShmWithoutCma, {}, true, true};
constexpr Lane kTargetMapped{"Target", Lane::Kind::kShmWithoutCma, {}, false, true};

TEST(MappedMessages, AreCopiedByLoadsAndStoresOfBothSides) {
  Job job(kMappedAlone, 2);
  constexpr std::size_t kBytes = 4'000'000;
  MessageBytes message(1, kBytes);
  GuardedBuffer target(kBytes);
  Operation& receive = job[1].receive(0, 0, target.buffer());
  Operation& send = job[0].send(1, 0, message.buffer());
  ASSERT_TRUE(job.finish({&send, &receive}));
  target.expect(1, kBytes);
  const ProtocolCounters sender = job[0].counters();
  const ProtocolCounters receiver = job[1].counters();
  EXPECT_GT(receiver.chunks_read, 0u);
  EXPECT_EQ(receiver.chunks_mapped, receiver.chunks_read);
  EXPECT_EQ(sender.chunks_mapped, sender.chunks_written);
  EXPECT_EQ(sender.fragments_sent, 0u);
}

TEST(MappedMessages, IntoAMappedBufferAreWrittenByTheSenderWhereTheReceiverCannotRead) {
  Job job(kTargetMapped, 2);
  constexpr std::size_t kBytes = 1'000'000;
  MessageBytes message(1, kBytes);
  GuardedBuffer target(kBytes);
  Operation& receive = job[1].receive(0, 0, target.buffer());
  Operation& send = job[0].send(1, 0, message.buffer());
  ASSERT_TRUE(job.finish({&send, &receive}));
  target.expect(1, kBytes);
  EXPECT_EQ(receive.completion.bytes, kBytes);
  EXPECT_EQ(job[0].counters().chunks_written, 4u);
  EXPECT_EQ(job[0].counters().fragments_sent, 0u);
}

// Two copies by the processors are quicker than one by the kernel, and slower than one by a
// processor.
TEST(MappedMessages, OfMiddleSizeAreAnnouncedWhereThoseOfOtherMemoryGoAtOnce) {
  const ProtocolLimits limits;
  for (const bool mapped : {false, true}) {
    for (const std::size_t bytes : {limits.eager_bytes, limits.eager_bytes + 1,
                                    limits.unmapped_eager_bytes, limits.unmapped_eager_bytes + 1}) {
      Job job(mapped ? kMapped : kUnmapped, 2);
      MessageBytes message(1, bytes);
      GuardedBuffer target(bytes);
      Operation& send = job[0].send(1, 0, message.buffer());
      Operation& receive = job[1].receive(0, 0, target.buffer());
      ASSERT_TRUE(job.finish({&send, &receive}));
      target.expect(1, bytes);
      const bool at_once = bytes <= (mapped ? limits.eager_bytes : limits.unmapped_eager_bytes);
      EXPECT_EQ(job[0].counters().eager_sent, at_once ? 1u : 0u) << mapped << ' ' << bytes;
      EXPECT_EQ(job[0].counters().rendezvous_sent, at_once ? 0u : 1u) << mapped << ' ' << bytes;
    }
  }
}

// The receiver goes on no longer once it has seen all messages: the sender can copy what is left of
// every one of them, and lets other traffic have its turn meanwhile.
TEST(MappedMessages, OfAWindowAreAllSharedAndHelpTakesTurns) {
  constexpr std::size_t kBytes = 512 * 1024;  // four chunks
  constexpr std::size_t kWindow = 60;
  constexpr std::uint64_t kTurn = 256 * 1024 / (kBytes / 4);
  bool all = false;
  bool turns = false;
  // The threads of the engines may take part now and then.
  for (int attempt = 0; attempt < 100 && (!all || !turns); ++attempt) {
    Job job(kMappedAlone, 2);
    MessageBytes message(1, kBytes);
    GuardedBuffer target(kBytes);
    std::vector<Operation*> operations;
    for (std::size_t i = 0; i < kWindow; ++i) {
      operations.push_back(&job[1].receive(0, 0, target.buffer()));
      operations.push_back(&job[0].send(1, 0, message.buffer()));
    }
    for (int i = 0; i < 3; ++i)
      job[1].progress();
    job[0].progress();
    const std::uint64_t first = job[0].counters().chunks_written;
    turns |= first > 0 && first <= kTurn;
    while (job[0].progress() != 0) {
    }
    all |= job[0].counters().chunks_written > 2 * kWindow;
    ASSERT_TRUE(job.finish(operations));
    target.expect(1, kBytes);
  }
  EXPECT_TRUE(all);
  EXPECT_TRUE(turns);
}

TEST(MappedMessages, FromABufferAtTheAddressOfAFreedOneCarryItsOwnBytes) {
  Job job(kMapped, 2);
  constexpr std::size_t kBytes = 300'000;
  const std::byte* address = nullptr;
  for (std::uint32_t turn = 0; turn < effort(200u); ++turn) {
    MessageBytes message(turn, kBytes);
    if (address == nullptr) address = message.bytes().data();
    GuardedBuffer target(kBytes);
    Operation& send = job[0].send(1, 0, message.buffer());
    Operation& receive = job[1].receive(0, 0, target.buffer());
    ASSERT_TRUE(job.finish({&send, &receive}));
    target.expect(turn, kBytes);
    job[0].release(send);
    job[1].release(receive);
    EXPECT_EQ(message.bytes().data(), address);
  }
}

// The header is in memory that the owner writes: here it says in mid-transfer that the region is
// gone, as a peer would find it if its mapping went away under it.
void retire(const std::byte* address) {
  const RegionId region = process_pool().region_of(address, 1);
  auto mapping = std::move(shm::SystemRegionMapper().map(getpid(), region)).value();
  reinterpret_cast<RegionHeader*>(mapping.data())->retired.store(1);
}

class LostMapping : public ::testing::Test {
 protected:
  void run(const Lane& lane, Error expected) {
    // A region of their own: the pool's other users go on with theirs.
    Job job(lane, 2);
    constexpr std::size_t kBytes = 4'000'000;
    MessageBytes message(1, kBytes);
    GuardedBuffer target(kBytes);
    Operation& receive = job[1].receive(0, 0, target.buffer());
    Operation& send = job[0].send(1, 0, message.buffer());
    while (job[1].counters().chunks_read == 0)
      job[1].progress();
    retire(message.bytes().data());
    ASSERT_TRUE(job.finish({&send, &receive}));
    EXPECT_EQ(receive.completion.error, expected);
    if (expected == Error::kNone) target.expect(1, kBytes);
  }
};

TEST_F(LostMapping, InMidTransferLeavesTheRestToTheKernel) {
  run(kMapped, Error::kNone);
}

TEST_F(LostMapping, InMidTransferLeavesTheRestToTheChannelWhereTheKernelRefuses) {
  run(kMappedAlone, Error::kNone);
}

}  // namespace
}  // namespace mooncake_mpi::testing
