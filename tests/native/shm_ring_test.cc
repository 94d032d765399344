// A slot's ring between a producer and a consumer: wrap-around, full rings, every payload size, and
// two threads at once.
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "effort.h"
#include "transport/shm/ring.h"

namespace mooncake_mpi::shm {
namespace {

struct FreeMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};

// A slot as a fresh segment has it: zeroed pages and a header.
class Slot {
 public:
  Slot() : memory_(static_cast<std::byte*>(std::aligned_alloc(kPage, round_to_page(kSlotBytes)))) {
    std::memset(memory_.get(), 0, round_to_page(kSlotBytes));
    new (memory_.get()) SlotHeader{};
  }
  SlotView view() const { return {memory_.get()}; }

 private:
  std::unique_ptr<std::byte, FreeMemory> memory_;
};

// Bytes that depend on the packet's number, so that a stale or shifted payload shows.
std::vector<std::byte> payload_of(std::uint32_t number, std::size_t bytes) {
  std::vector<std::byte> payload(bytes);
  std::uint32_t state = number * 2654435761u + 12345;
  for (std::byte& byte : payload) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<std::byte>(state >> 24);
  }
  return payload;
}

wire::Header header_of(std::uint32_t number, std::size_t bytes) {
  return wire::message_header(wire::Kind::kEager, number, 0, 0, static_cast<std::uint32_t>(bytes),
                              bytes);
}

class ShmRing : public ::testing::Test {
 protected:
  bool push(std::uint32_t number, std::size_t bytes, std::size_t prefix_bytes = 0) {
    const std::vector<std::byte> payload = payload_of(number, bytes);
    const Bytes all(payload);
    return producer_.try_push(header_of(number, bytes), all.first(prefix_bytes),
                              all.subspan(prefix_bytes));
  }

  // Takes one packet, which must be `number`; its size is what the header says.
  void pop(std::uint32_t number) {
    ASSERT_TRUE(consumer_.ready()) << number;
    const bool sane = consumer_.consume([&](const wire::Header& header, Bytes payload) {
      EXPECT_EQ(header.context, number);
      EXPECT_EQ(header.length(), payload.size());
      const std::vector<std::byte> expected = payload_of(number, payload.size());
      EXPECT_TRUE(std::equal(payload.begin(), payload.end(), expected.begin())) << number;
    });
    ASSERT_TRUE(sane);
    consumer_.publish_if_due();
  }

  Slot slot_;
  RingProducer producer_{slot_.view()};
  RingConsumer consumer_{slot_.view()};
};

// A receiver gives credit back before it has copied what it credits: the producer may use all room
// that is published by then, and the packet stays as it is.
TEST_F(ShmRing, APacketStaysWholeWhileItsReceiverReturnsCredit) {
  constexpr std::size_t kBytes = 4096;
  std::uint32_t pushed = 0;
  const auto fill = [&] {
    while (push(pushed, kBytes))
      ++pushed;
  };
  fill();
  for (std::uint32_t popped = 0; popped < 1000; ++popped) {
    ASSERT_TRUE(consumer_.ready());
    consumer_.consume([&](const wire::Header&, Bytes payload) {
      consumer_.add_credit(64 * 1024);
      consumer_.publish_if_due();
      fill();
      const std::vector<std::byte> expected = payload_of(popped, kBytes);
      EXPECT_TRUE(std::equal(payload.begin(), payload.end(), expected.begin())) << popped;
    });
  }
}

TEST_F(ShmRing, AFreshRingIsEmpty) {
  EXPECT_FALSE(consumer_.ready());
}

TEST_F(ShmRing, PacketsOfEverySizeArriveWhole) {
  std::uint32_t number = 0;
  for (std::size_t bytes = 0; bytes <= 600; ++bytes, ++number) {
    ASSERT_TRUE(push(number, bytes));
    ASSERT_NO_FATAL_FAILURE(pop(number));
  }
  for (std::size_t bytes = 601; bytes <= kMaxPacketBytes; bytes += 97, ++number) {
    ASSERT_TRUE(push(number, bytes));
    ASSERT_NO_FATAL_FAILURE(pop(number));
  }
  ASSERT_TRUE(push(number, kMaxPacketBytes));
  ASSERT_NO_FATAL_FAILURE(pop(number));
}

TEST_F(ShmRing, PrefixAndPayloadBecomeOnePayload) {
  std::uint32_t number = 0;
  for (const std::size_t bytes : {8u, 64u, 95u, 96u, 97u, 4096u}) {
    for (const std::size_t prefix : {0u, 1u, 8u}) {
      ASSERT_TRUE(push(number, bytes, prefix));
      ASSERT_NO_FATAL_FAILURE(pop(number++));
    }
  }
}

TEST_F(ShmRing, AFullRingRefusesAndAcceptsAgainWhenDrained) {
  for (int round = 0; round < 5; ++round) {
    std::uint32_t pushed = 0;
    while (push(pushed, 8))
      ASSERT_LE(++pushed, kDescriptors);
    // What the consumer has taken may be published late, but never more than a quarter.
    EXPECT_GE(pushed, kDescriptors * 3 / 4);
    EXPECT_FALSE(push(pushed, 0));
    for (std::uint32_t number = 0; number < pushed; ++number)
      ASSERT_NO_FATAL_FAILURE(pop(number));
    EXPECT_FALSE(consumer_.ready());
  }
}

TEST_F(ShmRing, AFullPayloadRingRefusesLargePacketsWithoutLosingAny) {
  constexpr std::size_t kBytes = kMaxPacketBytes - 4001;
  std::uint32_t pushed = 0;
  std::uint32_t popped = 0;
  for (int round = 0; round < 100; ++round) {
    while (push(pushed, kBytes))
      ++pushed;
    ASSERT_GE((pushed - popped) * kBytes, kPayloadBytes / 2);
    while (consumer_.ready())
      ASSERT_NO_FATAL_FAILURE(pop(popped++));
    ASSERT_EQ(popped, pushed);
  }
}

TEST_F(ShmRing, ARefusedLargePacketLeavesRoomForASmallOne) {
  std::uint32_t pushed = 0;
  while (push(pushed, kMaxPacketBytes))
    ++pushed;
  ASSERT_TRUE(push(pushed, 8));
  ++pushed;
  for (std::uint32_t number = 0; number < pushed; ++number)
    ASSERT_NO_FATAL_FAILURE(pop(number));
}

TEST_F(ShmRing, AFullRingIsPublishedWhileItIsDrained) {
  std::uint32_t pushed = 0;
  while (push(pushed, 8))
    ++pushed;
  slot_.view().header().producer_waits = 1;
  bool rung = false;
  while (consumer_.ready()) {
    consumer_.consume([](const wire::Header&, Bytes) {});
    rung |= consumer_.publish_if_due();
  }
  EXPECT_TRUE(rung) << "the waiting producer is never woken";
  EXPECT_TRUE(push(pushed, 8));
}

TEST_F(ShmRing, ADescriptorThatPointsOutsideIsRefused) {
  for (const std::uint64_t start :
       {std::uint64_t{kPayloadBytes - 64}, ~std::uint64_t{0}, std::uint64_t{1} << 40}) {
    Slot slot;
    RingConsumer consumer(slot.view());
    Descriptor& descriptor = slot.view().descriptor(0);
    descriptor.header = header_of(0, 4096);
    std::memcpy(descriptor.inline_bytes, &start, sizeof start);
    descriptor.sequence.store(full_sequence(0));
    ASSERT_TRUE(consumer.ready());
    const std::uint64_t inside = start % kPayloadBytes;
    bool delivered = false;
    const bool sane = consumer.consume([&](const wire::Header&, Bytes) { delivered = true; });
    EXPECT_EQ(sane, inside + 4096 <= kPayloadBytes);
    EXPECT_EQ(delivered, sane);
  }
  for (const std::uint32_t bytes : {std::uint32_t{kMaxPacketBytes + 1}, ~std::uint32_t{0}}) {
    Slot slot;
    RingConsumer consumer(slot.view());
    Descriptor& descriptor = slot.view().descriptor(0);
    descriptor.header = header_of(0, bytes);
    descriptor.sequence.store(full_sequence(0));
    EXPECT_FALSE(consumer.consume([](const wire::Header&, Bytes) { FAIL(); }));
  }
}

TEST_F(ShmRing, ReturnedCreditIsPublished) {
  consumer_.add_credit(1 << 20);
  consumer_.publish_if_due();
  EXPECT_EQ(producer_.header().credit_returned.load(), 1u << 20);
}

// Sizes from a generator that both threads run.
class Sizes {
 public:
  std::size_t next() {
    switch (random_() % 8) {
      case 0:
        return 0;
      case 1:
        return random_() % kMaxPacketBytes + 1;
      case 2:
        return random_() % 4096;
      default:
        return random_() % 128;
    }
  }

 private:
  std::mt19937 random_{7};
};

TEST_F(ShmRing, TwoThreadsPassRandomPacketsInOrder) {
  constexpr std::uint32_t kPackets = effort(30'000u);
  std::thread sender([&] {
    Sizes sizes;
    for (std::uint32_t number = 0; number < kPackets; ++number) {
      const std::size_t bytes = sizes.next();
      while (!push(number, bytes))
        std::this_thread::yield();
    }
  });
  Sizes sizes;
  for (std::uint32_t number = 0; number < kPackets && !HasFatalFailure(); ++number) {
    while (!consumer_.ready())
      std::this_thread::yield();
    const std::size_t bytes = sizes.next();
    const bool sane = consumer_.consume([&](const wire::Header& header, Bytes payload) {
      ASSERT_EQ(header.context, number);
      ASSERT_EQ(payload.size(), bytes);
      const std::vector<std::byte> expected = payload_of(number, bytes);
      ASSERT_TRUE(std::equal(payload.begin(), payload.end(), expected.begin())) << number;
    });
    EXPECT_TRUE(sane);
    consumer_.publish_if_due();
  }
  sender.join();
}

}  // namespace
}  // namespace mooncake_mpi::shm
