// Who is let in: both ends prove to each other that they have the secrets, and nothing that was
// changed, recorded or meant for others proves anything. One thread.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "effort.h"
#include "handshake_play.h"
#include "wire/address.h"

namespace mooncake_mpi::wire {
namespace {

using State = Handshake::State;
using Message = std::vector<std::byte>;

const Identity kCaller = test_identity(1, 7);
const Identity kCalled = test_identity(2, 9);

Handshake caller() {
  return Handshake::connecting(kCaller, kCalled);
}
Handshake called() {
  return Handshake::accepting(kCalled, knows(kCaller));
}

// What an honest pair says: call, answer, proof.
struct Recorded {
  Recorded() {
    feed(to, call = taken_from(from));
    feed(from, answer = taken_from(to));
    feed(to, proof = taken_from(from));
  }
  Handshake from = caller();
  Handshake to = called();
  Message call, answer, proof;
};

std::string refusal_of(const Handshake& end) {
  EXPECT_EQ(end.state(), State::kRefused);
  return end.refusal();
}

TEST(PairKey, IsHkdfOfBothSecretsInEitherOrder) {
  Identity one, other;
  for (int i = 0; i < 16; ++i) {
    one.uid[i] = static_cast<std::byte>(1 + i);
    other.uid[i] = static_cast<std::byte>(2 + i);
  }
  for (int i = 0; i < 32; ++i) {
    one.secret[i] = static_cast<std::byte>(40 + i);
    other.secret[i] = static_cast<std::byte>(90 + i);
  }
  const Key key = pair_key(one, other, "a purpose");
  // prk = hmac(b"mooncake_mpi pair of processes", secret1 + secret2)
  // hmac(prk, b"a purpose" + uid1 + uid2 + b"\1"), by Python
  constexpr unsigned char kExpected[] = {0x45, 0x1e, 0xaf, 0x2a, 0xb6, 0x6b, 0xad, 0xbd,
                                         0x98, 0xbd, 0x3e, 0xac, 0xd0, 0x6a, 0xcf, 0xe1,
                                         0x3f, 0x36, 0xde, 0xa0, 0x81, 0xf3, 0xb2, 0x99,
                                         0xcc, 0xc8, 0x60, 0xe2, 0x9d, 0x06, 0x1f, 0xca};
  EXPECT_TRUE(std::ranges::equal(key, std::as_bytes(std::span(kExpected))));
  EXPECT_EQ(pair_key(other, one, "a purpose"), key);
  EXPECT_NE(pair_key(one, other, "another"), key);
}

TEST(Handshake, OfTwoThatKnowEachOtherIsDoneAtBothEnds) {
  Recorded talk;
  EXPECT_EQ(talk.from.state(), State::kDone);
  EXPECT_EQ(talk.to.state(), State::kDone);
  EXPECT_EQ(talk.from.peer(), kCalled.uid);
  EXPECT_EQ(talk.to.peer(), kCaller.uid);
  EXPECT_EQ(talk.from.peer_number(), 9u);
  EXPECT_EQ(talk.to.peer_number(), 7u);
  EXPECT_EQ(talk.from.session_key(), talk.to.session_key());
  EXPECT_NE(talk.from.session_key(), Recorded().from.session_key());
  EXPECT_TRUE(talk.to.to_send().empty());
}

TEST(Handshake, TakesPiecesOfAnySizeAndNothingBehindItself) {
  for (const std::size_t piece : {1, 3, 7, 8, 79, 80, 81, 1000}) {
    Handshake from = caller();
    Handshake to = called();
    feed(to, taken_from(from), piece);
    Message answer = taken_from(to);
    const std::size_t bytes = answer.size();
    answer.resize(bytes + 50, std::byte{0xee});
    EXPECT_EQ(feed(from, answer, piece), bytes) << piece;
    ASSERT_EQ(from.state(), State::kDone);
    Message proof = taken_from(from);
    const std::size_t proof_bytes = proof.size();
    proof.resize(proof_bytes + 50, std::byte{0xee});
    EXPECT_EQ(feed(to, proof, piece), proof_bytes) << piece;
    ASSERT_EQ(to.state(), State::kDone);
    std::size_t used = 1;
    EXPECT_EQ(to.received(proof, used), State::kDone);
    EXPECT_EQ(used, 0u);
  }
}

TEST(Handshake, WithAnyBitFlippedIsRefused) {
  for (int turn = 0; turn < 3; ++turn) {
    const std::size_t bits = 8 * (turn == 2 ? sizeof(Handshake::Proof) : sizeof(Handshake::Call));
    for (std::size_t bit = 0; bit < bits; ++bit) {
      Handshake from = caller();
      Handshake to = called();
      const auto pass_on = [&](Handshake& speaker, Handshake& hearer, bool damaged) {
        Message message = taken_from(speaker);
        if (damaged && !message.empty()) message[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        feed(hearer, message);
      };
      pass_on(from, to, turn == 0);
      pass_on(to, from, turn == 1);
      pass_on(from, to, turn == 2);
      // The end that heard it refuses; where that was the call, in its answer or as the answer is
      // of another call.
      ASSERT_EQ((turn == 1 ? from : to).state() == State::kDone, false) << turn << " bit " << bit;
      const bool refused = from.state() == State::kRefused || to.state() == State::kRefused;
      ASSERT_TRUE(refused) << turn << " bit " << bit;
      if (turn < 2) {
        ASSERT_NE(from.state(), State::kDone) << turn << " bit " << bit;
      }
    }
  }
}

TEST(Handshake, ThatEndsEarlyIsNotDone) {
  const Recorded talk;
  for (std::size_t bytes = 0; bytes < talk.proof.size(); ++bytes) {
    Handshake from = caller();
    Handshake to = called();
    feed(to, taken_from(from));
    feed(from, taken_from(to));
    const Message proof = taken_from(from);
    feed(to, std::span(proof).first(bytes));
    ASSERT_EQ(to.state(), State::kGoesOn) << bytes;
  }
}

TEST(Handshake, ThatWasRecordedIsOfNoUseAgain) {
  const Recorded talk;
  Handshake to = called();
  feed(to, talk.call);
  EXPECT_EQ(to.state(), State::kGoesOn);
  feed(to, talk.proof);
  EXPECT_NE(refusal_of(to).find("secret"), std::string::npos);
  Handshake from = caller();
  feed(from, talk.answer);
  EXPECT_NE(refusal_of(from).find("secret"), std::string::npos);
}

TEST(Handshake, SaidBackToItsSpeakerIsRefused) {
  Handshake from = caller();
  const Message call = taken_from(from);
  feed(from, call);
  EXPECT_EQ(from.state(), State::kRefused);

  // To another connection of the same process, which accepts.
  Handshake self = Handshake::accepting(kCaller, knows(kCalled));
  feed(self, call);
  EXPECT_EQ(self.state(), State::kRefused);

  // Its own answer, as proof.
  Handshake to = called();
  Handshake honest = caller();
  feed(to, taken_from(honest));
  feed(to, taken_from(to));
  EXPECT_EQ(to.state(), State::kRefused);
}

// Two that call each other at once: what one proves as the called is no proof of a caller.
TEST(Handshake, OfTwoConnectionsCannotBeCrossed) {
  const auto knows_both = [](const Uid& uid) -> std::optional<Secret> {
    if (uid == kCaller.uid) return kCaller.secret;
    return uid == kCalled.uid ? std::optional(kCalled.secret) : std::nullopt;
  };
  Handshake first = caller();
  Handshake second = Handshake::connecting(kCalled, kCaller);
  Handshake first_end = Handshake::accepting(kCalled, knows_both);
  Handshake second_end = Handshake::accepting(kCaller, knows_both);
  feed(first_end, taken_from(first));
  feed(second_end, taken_from(second));
  const Message to_first = taken_from(first_end);
  const Message to_second = taken_from(second_end);
  feed(first, to_second);
  feed(second, to_first);
  EXPECT_EQ(first.state(), State::kRefused);
  EXPECT_EQ(second.state(), State::kRefused);
}

TEST(Handshake, OfAProcessWithoutTheSecretIsRefusedByEitherEnd) {
  for (const bool callers : {true, false}) {
    for (std::size_t byte = 0; byte < kCaller.secret.size(); ++byte) {
      Identity wrong = callers ? kCaller : kCalled;
      wrong.secret[byte] ^= std::byte{1};
      Handshake from = callers ? Handshake::connecting(wrong, kCalled) : caller();
      Handshake to = callers ? called() : Handshake::accepting(wrong, knows(kCaller));
      feed(to, taken_from(from));
      feed(from, taken_from(to));
      EXPECT_NE(refusal_of(from).find("secret"), std::string::npos);
      EXPECT_TRUE(taken_from(from).empty());
    }
  }
  // One that does not mind, and proves with what it has.
  Identity wrong = kCaller;
  wrong.secret[5] ^= std::byte{1};
  Handshake to = called();
  Handshake from = Handshake::connecting(wrong, kCalled);
  feed(to, taken_from(from));
  taken_from(to);
  Message proof = Recorded().proof;
  feed(to, proof);
  EXPECT_NE(refusal_of(to).find("secret"), std::string::npos);
}

TEST(Handshake, WithAnotherJobsProcessSaysSo) {
  Identity other = test_identity(60);
  Handshake from = caller();
  Handshake to = Handshake::accepting(other, knows(kCaller));
  feed(to, taken_from(from));
  EXPECT_NE(refusal_of(to).find("another job"), std::string::npos);
  feed(from, taken_from(to));
  EXPECT_NE(refusal_of(from).find("another job"), std::string::npos);
  EXPECT_FALSE(from.may_be_repeated());
}

TEST(Handshake, WithAProcessThatDoesNotKnowUsYetMayBeRepeated) {
  Handshake from = caller();
  Handshake to = Handshake::accepting(kCalled, knows(test_identity(60)));
  feed(to, taken_from(from));
  EXPECT_EQ(to.state(), State::kRefused);
  feed(from, taken_from(to));
  EXPECT_NE(refusal_of(from).find("not know"), std::string::npos);
  EXPECT_TRUE(from.may_be_repeated());
}

TEST(Handshake, OfAnotherVersionSaysSoAtBothEnds) {
  const auto changed = [](Message message) {
    message[4] = static_cast<std::byte>(kVersion + 1);
    return message;
  };
  Handshake from = caller();
  Handshake to = called();
  feed(to, changed(taken_from(from)));
  const std::string version = std::to_string(kVersion + 1);
  EXPECT_NE(refusal_of(to).find("version"), std::string::npos);
  EXPECT_NE(refusal_of(to).find(version), std::string::npos);
  // What it says to that is in its own version, as a process of another would hear it.
  feed(from, changed(taken_from(to)));
  EXPECT_NE(refusal_of(from).find("version"), std::string::npos);
  EXPECT_NE(refusal_of(from).find(version), std::string::npos);
}

TEST(Handshake, WithAStrangerEndsAtItsFirstBytes) {
  const std::string request = "GET / HTTP/1.1\r\nHost: example\r\n\r\n";
  Handshake to = called();
  EXPECT_EQ(feed(to, std::as_bytes(std::span(request))), sizeof(Handshake::Head));
  EXPECT_NE(refusal_of(to).find("something else"), std::string::npos);
  EXPECT_TRUE(to.to_send().empty());
}

TEST(Handshake, NeedsASecretAtBothEnds) {
  Identity blank = kCaller;
  blank.secret = {};
  EXPECT_EQ(Handshake::connecting(blank, kCalled).state(), State::kRefused);
  EXPECT_EQ(Handshake::connecting(kCalled, blank).state(), State::kRefused);
  EXPECT_EQ(Handshake::accepting(blank, knows(kCalled)).state(), State::kRefused);
  EXPECT_EQ(Handshake::connecting(kCaller, kCaller).state(), State::kRefused);
  // One that is called by a process whose secret it was not given.
  Handshake from = caller();
  Handshake to = Handshake::accepting(kCalled, knows(blank));
  feed(to, taken_from(from));
  EXPECT_EQ(to.state(), State::kRefused);
}

TEST(Handshake, WithRandomStrangersLetsNobodyIn) {
  std::mt19937 random(20240607);
  for (int turn = 0; turn < effort(20'000); ++turn) {
    Message bytes(random() % 200);
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random());
    // Past the head now and then.
    const Handshake::Head head{.version = kVersion,
                               .kind = static_cast<Handshake::Kind>(1 + random() % 4)};
    if (random() % 2 != 0 && bytes.size() > sizeof head)
      std::memcpy(bytes.data() + 1, &head, sizeof head);
    play_handshake(bytes);
  }
}

}  // namespace
}  // namespace mooncake_mpi::wire
