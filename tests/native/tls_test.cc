// Ciphers carry bytes whole and in order between two ends that have the same key; what was changed,
// repeated, left out or said by others is not given out. One thread.
#include "drivers/openssl/tls.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "drivers/openssl/fake_cipher.h"
#include "effort.h"

namespace mooncake_mpi {
namespace {

using State = Cipher::State;
using Bytes = std::vector<std::byte>;

std::unique_ptr<Cipher> take(Result<std::unique_ptr<Cipher>> made) {
  EXPECT_TRUE(made.ok()) << made.failure().message;
  return std::move(made).value();
}

openssl_driver::Key key_of(int number) {
  openssl_driver::Key key{};
  key[0] = static_cast<std::byte>(number);
  key[31] = std::byte{1};
  return key;
}

struct Ends {
  std::unique_ptr<Cipher> one;
  std::unique_ptr<Cipher> other;
};

class Ciphers : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!GetParam()) return;
    auto loaded = openssl_driver::Tls::load();
    if (!loaded) GTEST_SKIP() << loaded.failure().message;
    tls_ = std::move(loaded).value();
  }
  Ends ends(int key = 7, int other_key = 7,
            std::uint64_t records = openssl_driver::Tls::kRecordsOfAKey) {
    if (!GetParam()) {
      return {std::make_unique<FakeCipher>(static_cast<std::byte>(key)),
              std::make_unique<FakeCipher>(static_cast<std::byte>(other_key))};
    }
    return {take(tls_->connecting(key_of(key), records)),
            take(tls_->accepting(key_of(other_key), records))};
  }
  Ends open_ends() {
    Ends made = ends();
    for (int turn = 0; turn < 4; ++turn) {
      pass(*made.one, *made.other);
      pass(*made.other, *made.one);
    }
    EXPECT_EQ(made.one->state(), State::kOpen) << made.one->failure();
    EXPECT_EQ(made.other->state(), State::kOpen) << made.other->failure();
    return made;
  }
  static Bytes taken_from(Cipher& from) {
    Bytes bytes(from.to_send().begin(), from.to_send().end());
    from.sent(bytes.size());
    return bytes;
  }
  static void pass(Cipher& from, Cipher& to) { to.received(taken_from(from)); }
  static Bytes read_all(Cipher& from) {
    Bytes all;
    std::byte some[3000];
    while (const std::size_t bytes = from.read(some))
      all.insert(all.end(), some, some + bytes);
    return all;
  }
  Bytes random_bytes(std::size_t count) {
    Bytes bytes(count);
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random_());
    return bytes;
  }

  std::mt19937 random_{20240607};
  std::unique_ptr<openssl_driver::Tls> tls_;
};

TEST_P(Ciphers, CarryEveryByteBothWaysInPiecesOfAnySize) {
  Ends made = ends();
  Bytes said[2], heard[2];
  std::size_t written[2] = {0, 0};
  said[0] = random_bytes(300'000);
  said[1] = random_bytes(70'001);
  Cipher* both[2] = {made.one.get(), made.other.get()};
  for (int turn = 0; turn < 200'000 && (heard[0] != said[1] || heard[1] != said[0]); ++turn) {
    const int from = static_cast<int>(random_() % 2);
    Cipher& speaker = *both[from];
    Cipher& hearer = *both[1 - from];
    const auto left = std::span(said[from]).subspan(written[from]);
    written[from] +=
        speaker.write(left.first(std::min<std::size_t>(left.size(), random_() % 20'000)));
    const auto out = speaker.to_send();
    const std::size_t bytes = std::min<std::size_t>(out.size(), 1 + random_() % 9'000);
    const Bytes piece(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(bytes));
    speaker.sent(bytes);
    hearer.received(piece);
    const Bytes plain = read_all(hearer);
    heard[1 - from].insert(heard[1 - from].end(), plain.begin(), plain.end());
  }
  EXPECT_TRUE(heard[0] == said[1]);
  EXPECT_TRUE(heard[1] == said[0]);
}

TEST_P(Ciphers, ShowNothingOfWhatIsSaid) {
  Ends made = open_ends();
  const Bytes secret(200, std::byte{'s'});
  made.one->write(secret);
  const Bytes wire = taken_from(*made.one);
  const Bytes part(8, std::byte{'s'});
  EXPECT_EQ(std::search(wire.begin(), wire.end(), part.begin(), part.end()), wire.end());
}

TEST_P(Ciphers, WithOtherKeysDoNotOpen) {
  Ends made = ends(7, 8);
  for (int turn = 0; turn < 4; ++turn) {
    pass(*made.one, *made.other);
    pass(*made.other, *made.one);
  }
  EXPECT_EQ(made.other->state(), State::kFailed);
  EXPECT_NE(made.one->state(), State::kOpen);
  EXPECT_FALSE(made.other->failure().empty());
  EXPECT_EQ(made.one->write(random_bytes(10)), 0u);
  EXPECT_EQ(made.other->write(random_bytes(10)), 0u);
}

TEST_P(Ciphers, GiveOutNothingThatWasChanged) {
  for (int turn = 0; turn < effort(300); ++turn) {
    Ends made = open_ends();
    const Bytes said = random_bytes(1 + random_() % 3'000);
    ASSERT_EQ(made.one->write(said), said.size());
    Bytes wire = taken_from(*made.one);
    wire[random_() % wire.size()] ^= static_cast<std::byte>(1u << random_() % 8);
    made.other->received(wire);
    const Bytes heard = read_all(*made.other);
    // What was whole before the change may have come.
    ASSERT_LE(heard.size(), said.size());
    ASSERT_TRUE(std::equal(heard.begin(), heard.end(), said.begin()));
    ASSERT_TRUE(heard.size() < said.size() || made.other->state() == State::kFailed);
  }
}

TEST_P(Ciphers, NoticeARecordThatComesTwiceOrNotAtAll) {
  for (const bool twice : {true, false}) {
    Ends made = open_ends();
    made.one->write(random_bytes(50));
    const Bytes first = taken_from(*made.one);
    made.one->write(random_bytes(50));
    const Bytes second = taken_from(*made.one);
    if (twice) {
      made.other->received(first);
      EXPECT_EQ(read_all(*made.other).size(), 50u);
      made.other->received(first);
    } else {
      made.other->received(second);
    }
    EXPECT_TRUE(read_all(*made.other).empty());
    EXPECT_EQ(made.other->state(), State::kFailed);
  }
}

TEST_P(Ciphers, TakeNoMoreWhileMuchIsUnsent) {
  Ends made = open_ends();
  const Bytes much(4'000'000);
  const std::size_t taken = made.one->write(much);
  EXPECT_GT(taken, 0u);
  EXPECT_LT(taken, 600'000u);
  EXPECT_EQ(made.one->write(much), 0u);
  taken_from(*made.one);
  EXPECT_GT(made.one->write(much), 0u);
}

TEST_P(Ciphers, SayThatNothingMoreComes) {
  Ends made = open_ends();
  made.one->write(random_bytes(100));
  made.one->close();
  EXPECT_EQ(made.one->write(random_bytes(1)), 0u);
  pass(*made.one, *made.other);
  EXPECT_EQ(read_all(*made.other).size(), 100u);
  EXPECT_TRUE(read_all(*made.other).empty());
  EXPECT_EQ(made.other->state(), State::kClosed);
}

TEST_P(Ciphers, AreNotOpenedByAStranger) {
  for (int turn = 0; turn < effort(200); ++turn) {
    Ends made = ends();
    Bytes garbage = random_bytes(1 + random_() % 400);
    garbage[0] = std::byte{22};  // a record of TLS's handshake
    made.one->received(garbage);
    made.other->received(garbage);
    ASSERT_NE(made.one->state(), State::kOpen);
    ASSERT_NE(made.other->state(), State::kOpen);
    ASSERT_TRUE(read_all(*made.other).empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Ciphers, ::testing::Bool(),
                         [](const auto& kind) { return kind.param ? "Tls" : "Fake"; });

class Tls : public Ciphers {};

TEST_P(Tls, ChangesKeysBeforeTheyAreWornOut) {
  Ends made = ends(7, 7, 5);
  for (int turn = 0; turn < 4; ++turn) {
    pass(*made.one, *made.other);
    pass(*made.other, *made.one);
  }
  for (int turn = 0; turn < 100; ++turn) {
    const Bytes said = random_bytes(40'000);
    Cipher& from = turn % 3 == 0 ? *made.other : *made.one;
    Cipher& to = turn % 3 == 0 ? *made.one : *made.other;
    ASSERT_EQ(from.write(said), said.size());
    pass(from, to);
    ASSERT_TRUE(read_all(to) == said) << turn << to.failure();
  }
}

// Who has recorded everything, and gets the key of another connection of the same two, reads
// nothing and cannot repeat it.
TEST_P(Tls, DoesNotTakeUpWhatWasRecorded) {
  Ends made = ends();
  const Bytes hello = taken_from(*made.one);
  made.other->received(hello);
  pass(*made.other, *made.one);
  const Bytes finished = taken_from(*made.one);
  auto again = take(tls_->accepting(key_of(7)));
  again->received(hello);
  again->received(finished);
  EXPECT_EQ(again->state(), State::kFailed);
}

INSTANTIATE_TEST_SUITE_P(Real, Tls, ::testing::Values(true));

TEST(OpenSsl, ThatIsNotHereIsALineThatSaysSo) {
  const auto none = openssl_driver::Tls::load("libnothing-of-that-name.so.3");
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.failure().message.find("no OpenSSL 3"), std::string::npos);
  const auto other = openssl_driver::Tls::load("libm.so.6");
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.failure().message.find("libm.so.6 has no OPENSSL_init_ssl"), std::string::npos);
}

}  // namespace
}  // namespace mooncake_mpi
