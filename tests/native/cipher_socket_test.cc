// Encrypted connections behave as sockets do: short writes, no room, an end, and nothing that waits
// where no event tells of it. One thread.
#include "transport/tcp/cipher_socket.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#include "drivers/openssl/fake_cipher.h"
#include "drivers/openssl/tls.h"

namespace mooncake_mpi::tcp {
namespace {

using Bytes = std::vector<std::byte>;

// One way of a connection, with little room.
struct Pipe {
  std::deque<std::byte> bytes;
  std::size_t room = 20'000;
  bool ended = false;
};

class PipeSocket final : public linux_driver::Socket {
 public:
  PipeSocket(std::shared_ptr<Pipe> out, std::shared_ptr<Pipe> in)
      : out_(std::move(out)), in_(std::move(in)) {}
  ssize_t send(std::span<const iovec> pieces) noexcept override {
    ssize_t done = 0;
    for (const iovec& piece : pieces) {
      const auto* data = static_cast<const std::byte*>(piece.iov_base);
      const std::size_t taken = std::min(piece.iov_len, out_->room - out_->bytes.size());
      out_->bytes.insert(out_->bytes.end(), data, data + taken);
      done += static_cast<ssize_t>(taken);
    }
    return done == 0 ? -EAGAIN : done;
  }
  ssize_t receive(std::span<const iovec> pieces) noexcept override {
    if (in_->bytes.empty()) return in_->ended ? 0 : -EAGAIN;
    ssize_t done = 0;
    for (const iovec& piece : pieces) {
      const std::size_t taken = std::min(piece.iov_len, in_->bytes.size());
      std::copy_n(in_->bytes.begin(), taken, static_cast<std::byte*>(piece.iov_base));
      in_->bytes.erase(in_->bytes.begin(), in_->bytes.begin() + static_cast<std::ptrdiff_t>(taken));
      done += static_cast<ssize_t>(taken);
    }
    return done;
  }
  int descriptor() const noexcept override { return -1; }
  int connect_status() noexcept override { return 0; }
  std::uint64_t unconfirmed_bytes() const noexcept override { return 0; }
  void keep_alive(std::uint64_t) noexcept override {}
  std::uint64_t silence_ns() const noexcept override { return 0; }
  void cut() noexcept override {}
  linux_driver::Endpoint local() const noexcept override { return {}; }
  linux_driver::Endpoint remote() const noexcept override { return {}; }

 private:
  std::shared_ptr<Pipe> out_;
  std::shared_ptr<Pipe> in_;
};

class CipherSockets : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::unique_ptr<Cipher> ciphers[2];
    if (GetParam()) {
      auto loaded = openssl_driver::Tls::load();
      if (!loaded) GTEST_SKIP() << loaded.failure().message;
      tls_ = std::move(loaded).value();
      const openssl_driver::Key key{std::byte{5}};
      ciphers[0] = std::move(tls_->connecting(key)).value();
      ciphers[1] = std::move(tls_->accepting(key)).value();
    } else {
      ciphers[0] = std::make_unique<FakeCipher>(std::byte{5});
      ciphers[1] = std::make_unique<FakeCipher>(std::byte{5});
    }
    for (int i = 0; i < 2; ++i)
      pipes_[i] = std::make_shared<Pipe>();
    for (int i = 0; i < 2; ++i) {
      ends_[i] = std::make_unique<CipherSocket>(
          std::make_shared<PipeSocket>(pipes_[i], pipes_[1 - i]), std::move(ciphers[i]));
    }
  }
  static ssize_t say(CipherSocket& end, std::span<const std::byte> bytes) {
    const iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
    return end.send(std::span(&piece, 1));
  }
  // Until there is nothing; in pieces of that size.
  static ssize_t hear(CipherSocket& end, Bytes& into, std::size_t size = 5'000) {
    Bytes some(size);
    const iovec pieces[2] = {{some.data(), size / 3}, {some.data() + size / 3, size - size / 3}};
    for (;;) {
      const ssize_t got = end.receive(pieces);
      if (got <= 0) return got;
      into.insert(into.end(), some.begin(), some.begin() + got);
    }
  }
  void open() {
    Bytes none;
    for (int turn = 0; turn < 6; ++turn)
      ASSERT_EQ(hear(*ends_[turn % 2], none), -EAGAIN);
    ASSERT_TRUE(none.empty());
  }
  Bytes random_bytes(std::size_t count) {
    Bytes bytes(count);
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random_());
    return bytes;
  }

  std::mt19937 random_{20240607};
  std::unique_ptr<openssl_driver::Tls> tls_;
  std::shared_ptr<Pipe> pipes_[2];
  std::unique_ptr<CipherSocket> ends_[2];
};

TEST_P(CipherSockets, TakeNothingBeforeTheyAreOpen) {
  const Bytes word = random_bytes(10);
  EXPECT_EQ(say(*ends_[0], word), -EAGAIN);
  open();
  EXPECT_EQ(say(*ends_[0], word), 10);
  Bytes heard;
  hear(*ends_[1], heard);
  EXPECT_TRUE(heard == word);
}

TEST_P(CipherSockets, CarryEverythingThroughLittleRoom) {
  const Bytes said[2] = {random_bytes(500'000), random_bytes(300'000)};
  Bytes heard[2];
  std::size_t sent[2] = {0, 0};
  for (int turn = 0; turn < 100'000; ++turn) {
    const int end = turn % 2;
    const auto left = std::span(said[end]).subspan(sent[end]);
    const ssize_t taken =
        say(*ends_[end], left.first(std::min<std::size_t>(left.size(), random_() % 60'000)));
    if (taken > 0) sent[end] += static_cast<std::size_t>(taken);
    if (ends_[end]->owes()) ends_[end]->send({});
    hear(*ends_[1 - end], heard[1 - end], 3 + random_() % 9'000);
    if (heard[0].size() == said[1].size() && heard[1].size() == said[0].size()) break;
  }
  EXPECT_TRUE(heard[0] == said[1]);
  EXPECT_TRUE(heard[1] == said[0]);
}

TEST_P(CipherSockets, SayWhatTheyHaveTakenAndCouldNotSend) {
  open();
  pipes_[0]->room = 100;
  EXPECT_EQ(say(*ends_[0], random_bytes(5'000)), 5'000);
  EXPECT_TRUE(ends_[0]->owes());
  EXPECT_EQ(say(*ends_[0], random_bytes(10)), -EAGAIN);
  pipes_[0]->room = 100'000;
  EXPECT_EQ(ends_[0]->send({}), 0);
  EXPECT_FALSE(ends_[0]->owes());
  Bytes heard;
  hear(*ends_[1], heard);
  EXPECT_EQ(heard.size(), 5'000u);
}

TEST_P(CipherSockets, SayThatTheyHoldWhatNoEventTellsOf) {
  open();
  say(*ends_[0], random_bytes(1'000));
  std::byte some[100];
  const iovec piece{some, sizeof some};
  EXPECT_EQ(ends_[1]->receive(std::span(&piece, 1)), 100);
  EXPECT_TRUE(pipes_[0]->bytes.empty());
  EXPECT_TRUE(ends_[1]->holds());
  Bytes heard;
  EXPECT_EQ(hear(*ends_[1], heard), -EAGAIN);
  EXPECT_EQ(heard.size(), 900u);
  EXPECT_FALSE(ends_[1]->holds());
}

TEST_P(CipherSockets, EndWhenTheConnectionDoesAndWhenItWasChanged) {
  open();
  say(*ends_[0], random_bytes(50));
  say(*ends_[1], random_bytes(50));
  pipes_[0]->ended = true;
  Bytes heard;
  EXPECT_EQ(hear(*ends_[1], heard), 0);
  EXPECT_EQ(heard.size(), 50u);
  pipes_[1]->bytes[20] ^= std::byte{1};
  heard.clear();
  EXPECT_EQ(hear(*ends_[0], heard), -EBADMSG);
  EXPECT_TRUE(heard.empty());
  EXPECT_EQ(say(*ends_[0], random_bytes(5)), -EBADMSG);
}

INSTANTIATE_TEST_SUITE_P(Kinds, CipherSockets, ::testing::Bool(),
                         [](const auto& kind) { return kind.param ? "Tls" : "Fake"; });

}  // namespace
}  // namespace mooncake_mpi::tcp
