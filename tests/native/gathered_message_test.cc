// Messages whose bytes lie at several places of the sender's memory. One thread plays every rank.
#include <cstring>

#include "lanes.h"
#include "memory/pieces.h"

namespace mooncake_mpi::testing {
namespace {

// The message `seed` cut into pieces of these lengths, each in memory of its own.
class Scattered {
 public:
  Scattered(std::uint32_t seed, std::initializer_list<std::size_t> lengths)
      : whole_(seed, total(lengths)) {
    std::size_t offset = 0;
    for (const std::size_t length : lengths) {
      const Bytes part = whole_.bytes().subspan(offset, length);
      memory_.emplace_back(part.begin(), part.end());
      offset += length;
    }
  }

  std::size_t bytes() const { return whole_.bytes().size(); }
  std::unique_ptr<Pieces> pieces() const {
    auto pieces = std::make_unique<Pieces>();
    for (const auto& part : memory_)
      pieces->add(part.data(), part.size());
    return pieces;
  }

 private:
  static std::size_t total(std::initializer_list<std::size_t> lengths) {
    std::size_t sum = 0;
    for (const std::size_t length : lengths)
      sum += length;
    return sum;
  }

  MessageBytes whole_;
  std::vector<std::vector<std::byte>> memory_;
};

TEST(Pieces, GiveTheBytesOfAnyOffsetUpToTheNextGap) {
  const Scattered scattered(1, {3, 0, 1, 5});
  const std::unique_ptr<Pieces> pieces = scattered.pieces();
  MessageBytes whole(1, 9);
  EXPECT_EQ(pieces->bytes(), 9u);
  const std::size_t ends[] = {3, 3, 3, 4, 9, 9, 9, 9, 9};
  for (std::size_t offset = 0; offset < 9; ++offset) {
    const Bytes run = pieces->at(offset, 100);
    EXPECT_EQ(run.size(), ends[offset] - offset);
    EXPECT_EQ(pieces->at(offset, 1).size(), 1u);
    EXPECT_EQ(run[0], whole.bytes()[offset]);
  }
}

class GatheredMessages : public OverEveryLane {};

TEST_P(GatheredMessages, ArriveWholeInOnePiece) {
  Job job(GetParam(), 2);
  std::uint32_t seed = 0;
  for (const auto lengths : {std::initializer_list<std::size_t>{1},
                             {40, 7, 300'000, 1, 65'536, 64},
                             {8'192, 8'192},
                             {262'144, 262'144, 262'144},
                             {3, 700'001}}) {
    for (const bool early : {true, false}) {
      for (const SendMode mode : {SendMode::kStandard, SendMode::kSynchronous}) {
        const Scattered message(++seed, lengths);
        GuardedBuffer target(message.bytes());
        Operation* receive = early ? &job[1].receive(0, 5, target.buffer()) : nullptr;
        Operation& send = job[0].send_pieces(1, 5, message.pieces(), mode);
        if (!early) {
          ASSERT_TRUE(job.run_until([&] { return job[1].unexpected_count() != 0; }));
          receive = &job[1].receive(0, 5, target.buffer());
        }
        ASSERT_TRUE(job.finish({&send, receive}));
        EXPECT_EQ(send.completion.error, Error::kNone);
        EXPECT_EQ(receive->completion.error, Error::kNone);
        EXPECT_EQ(receive->completion.bytes, message.bytes());
        target.expect(seed, message.bytes());
        job[0].release(send);
        job[1].release(*receive);
      }
    }
  }
}

TEST_P(GatheredMessages, AreCutAtAShorterBuffer) {
  Job job(GetParam(), 2);
  const Scattered message(9, {1'000, 50'000, 50'000});
  GuardedBuffer target(60'000);
  Operation& receive = job[1].receive(0, 5, target.buffer());
  Operation& send = job[0].send_pieces(1, 5, message.pieces());
  ASSERT_TRUE(job.finish({&send, &receive}));
  EXPECT_EQ(receive.completion.error, Error::kTruncate);
  target.expect(9, 60'000);
}

TEST_P(GatheredMessages, KeepTheirPlaceAmongOthers) {
  Job job(GetParam(), 2);
  const Scattered message(2, {20'000, 90'000});
  MessageBytes before(1, 100);
  MessageBytes after(3, 100);
  GuardedBuffer targets[] = {GuardedBuffer(100), GuardedBuffer(110'000), GuardedBuffer(100)};
  std::vector<Operation*> operations = {&job[0].send(1, 5, before.buffer()),
                                        &job[0].send_pieces(1, 5, message.pieces()),
                                        &job[0].send(1, 5, after.buffer())};
  for (GuardedBuffer& target : targets)
    operations.push_back(&job[1].receive(0, 5, target.buffer()));
  ASSERT_TRUE(job.finish(operations));
  targets[0].expect(1, 100);
  targets[1].expect(2, 110'000);
  targets[2].expect(3, 100);
}

INSTANTIATE_TEST_SUITE_P(Lanes, GatheredMessages, ::testing::ValuesIn(kLanes), lane_name);

}  // namespace
}  // namespace mooncake_mpi::testing
