// How two processes come to one connection, over hosts in memory: who calls whom, in any order, at
// several addresses, among strangers, with descriptors that are not there.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "drivers/linux/fake_sockets.h"
#include "transport/tcp/lobby.h"

namespace mooncake_mpi::testing {
namespace {

using linux_driver::FakeInternet;
using linux_driver::Socket;
using tcp::Lobby;

constexpr std::uint64_t kMillisecond = 1'000'000;

tcp::Config config() {
  tcp::Config config;
  config.timeout_ns = 10'000 * kMillisecond;
  config.refused_ns = 2'000 * kMillisecond;
  return config;
}

// A process of a test: its clock is the test's.
struct Host {
  Host(FakeInternet& internet, unsigned char name, int addresses = 1,
       const tcp::Config& with = config())
      : address(identity(name)), lobby(address, internet.add_host(addresses), with) {
    const auto opened = lobby.open();
    EXPECT_TRUE(opened.ok());
    std::vector<wire::TcpEndpoint> endpoints;
    for (const auto& endpoint : lobby.endpoints())
      endpoints.push_back(tcp::to_wire(endpoint));
    address.add(tcp::kLane, std::as_bytes(std::span(endpoints)));
  }

  static wire::Address identity(unsigned char name) {
    wire::Address address;
    address.uid[0] = static_cast<std::byte>(name);
    address.job_secret[0] = static_cast<std::byte>(name);
    address.job_secret[1] = std::byte{7};
    address.pid = name;
    return address;
  }

  void turn(std::uint64_t now) {
    lobby.turn(now);
    if (lobby.has_news()) lobby.take_news(arrivals, losses);
  }

  wire::Address address;
  Lobby lobby;
  std::vector<Lobby::Arrival> arrivals;
  std::vector<Lobby::Loss> losses;
};

ssize_t say(Socket& socket, std::string_view text) {
  const iovec piece{const_cast<char*>(text.data()), text.size()};
  return socket.send(std::span(&piece, 1));
}

std::string hear(Socket& socket) {
  char text[200];
  const iovec piece{text, sizeof text};
  const ssize_t bytes = socket.receive(std::span(&piece, 1));
  return bytes > 0 ? std::string(text, static_cast<std::size_t>(bytes)) : std::string();
}

class TcpLobby : public ::testing::Test {
 protected:
  std::uint64_t now_ = 1'000'000'000'000;
  std::shared_ptr<FakeInternet> internet_ = std::make_shared<FakeInternet>();

  template <class Done>
  bool run(std::vector<Host*> hosts, Done&& done, std::uint64_t milliseconds = 20'000) {
    for (std::uint64_t passed = 0; passed < milliseconds; ++passed) {
      for (Host* host : hosts)
        host->turn(now_);
      if (done()) return true;
      now_ += kMillisecond;
    }
    return false;
  }
  void expect_connected(Host& one, Host& other) {
    ASSERT_EQ(one.arrivals.size(), 1u);
    ASSERT_EQ(other.arrivals.size(), 1u);
    EXPECT_EQ(one.arrivals[0].process, other.address.uid);
    EXPECT_EQ(other.arrivals[0].process, one.address.uid);
    EXPECT_NE(one.arrivals[0].called, other.arrivals[0].called);
    say(*one.arrivals[0].socket, "hello");
    EXPECT_EQ(hear(*other.arrivals[0].socket), "hello");
  }
};

TEST_F(TcpLobby, WhoIsCalledAndWhoCallsGetTheSameConnection) {
  Host one(*internet_, 1);
  Host two(*internet_, 2);
  two.lobby.expect(one.address);
  one.lobby.call(two.address, wire::kTcpPackets);
  ASSERT_TRUE(run({&one, &two}, [&] { return one.arrivals.size() + two.arrivals.size() == 2; }));
  expect_connected(one, two);
  EXPECT_TRUE(one.arrivals[0].called);
}

TEST_F(TcpLobby, EncryptsWhereEitherSideWantsIt) {
  for (const int who : {0, 1, 2, 3}) {
    SCOPED_TRACE(who);
    tcp::Config configs[2] = {config(), config()};
    configs[0].encrypts = (who & 1) != 0;
    configs[1].encrypts = (who & 2) != 0;
    internet_ = std::make_shared<FakeInternet>();
    Host one(*internet_, 1, 1, configs[0]);
    Host two(*internet_, 2, 1, configs[1]);
    two.lobby.expect(one.address);
    one.lobby.call(two.address, wire::kTcpPackets);
    ASSERT_TRUE(run({&one, &two}, [&] { return one.arrivals.size() + two.arrivals.size() == 2; }));
    Socket& from = *one.arrivals[0].socket;
    Socket& to = *two.arrivals[0].socket;
    const bool plain = say(from, "a word that is known") > 0;
    EXPECT_EQ(plain, who == 0) << "before both ends have keys";
    if (plain) continue;
    std::string heard;
    for (int turn = 0; turn < 10 && heard.empty(); ++turn) {
      hear(from);
      heard = hear(to);
      if (heard.empty()) say(from, "a word that is known");
    }
    EXPECT_EQ(heard, "a word that is known");
  }
}

TEST_F(TcpLobby, WhoCannotEncryptIsNamedAtBothEnds) {
  tcp::Config encrypting = config();
  encrypting.encrypts = true;
  tcp::Config unable = config();
  unable.tls_library = "no-such-library.so";
  Host one(*internet_, 1, 1, encrypting);
  Host two(*internet_, 2, 1, unable);
  one.lobby.expect(two.address);
  two.lobby.expect(one.address);
  one.lobby.call(two.address, wire::kTcpPackets);
  ASSERT_TRUE(run({&one, &two}, [&] { return !one.losses.empty(); }));
  EXPECT_NE(one.losses[0].reason.find("who answers there has no OpenSSL 3"), std::string::npos)
      << one.losses[0].reason;
  two.lobby.call(one.address, wire::kTcpPackets);
  ASSERT_TRUE(run({&one, &two}, [&] { return !two.losses.empty(); }));
  EXPECT_NE(two.losses[0].reason.find("here is no OpenSSL 3"), std::string::npos)
      << two.losses[0].reason;
}

TEST_F(TcpLobby, WhoCallBothAtOnceAgreeOnOneConnectionInWhateverOrderThingsHappen) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    internet_ = std::make_shared<FakeInternet>();
    internet_->weather.most_bytes = round % 3 == 0 ? 7 : UINT32_MAX;
    internet_->weather.last_first = random() % 2 == 0;
    internet_->weather.refusals = static_cast<int>(random() % 3);
    Host one(*internet_, 1, 1 + round % 2);
    Host two(*internet_, 2, 1 + round % 3);
    Host* const hosts[] = {&one, &two};
    one.lobby.expect(two.address);
    two.lobby.expect(one.address);
    bool called[] = {false, false};
    for (int step = 0; step < 40; ++step) {
      const unsigned who = random() % 2;
      if (!called[who]) hosts[who]->lobby.call(hosts[1 - who]->address, wire::kTcpPackets);
      called[who] = true;
      for (unsigned turns = random() % 4; turns != 0; --turns)
        hosts[who]->turn(now_);
    }
    ASSERT_TRUE(run({&one, &two}, [&] { return !one.arrivals.empty() && !two.arrivals.empty(); }));
    run({&one, &two}, [] { return false; }, 3000);
    expect_connected(one, two);
    EXPECT_TRUE(one.losses.empty());
    EXPECT_TRUE(two.losses.empty());
  }
}

TEST_F(TcpLobby, AProcessThatIsNotKnownYetIsLetInOnceItIs) {
  Host one(*internet_, 1);
  Host two(*internet_, 2);
  Host three(*internet_, 3);
  two.lobby.expect(three.address);
  one.lobby.call(two.address, wire::kTcpPackets);
  run({&one, &two}, [] { return false; }, 1000);
  EXPECT_TRUE(one.arrivals.empty());
  EXPECT_TRUE(two.arrivals.empty());
  two.lobby.expect(one.address);
  ASSERT_TRUE(run({&one, &two}, [&] { return !one.arrivals.empty(); }));
  expect_connected(one, two);
}

TEST_F(TcpLobby, NobodyListensBeforeAProcessIsExpected) {
  Host one(*internet_, 1);
  Host two(*internet_, 2);
  one.lobby.call(two.address, wire::kTcpPackets);
  ASSERT_TRUE(run({&one, &two}, [&] { return !one.losses.empty(); }));
  EXPECT_NE(one.losses[0].reason.find("10.0.0.2:"), std::string::npos) << one.losses[0].reason;
  EXPECT_NE(one.losses[0].reason.find("refused"), std::string::npos) << one.losses[0].reason;
}

TEST_F(TcpLobby, WhoDoesNotHaveTheSecretIsNotLetIn) {
  Host one(*internet_, 1);
  Host two(*internet_, 2);
  wire::Address liar = one.address;
  liar.job_secret[5] = std::byte{9};
  two.lobby.expect(liar);
  one.lobby.call(two.address, wire::kTcpPackets);
  ASSERT_TRUE(run({&one, &two}, [&] { return !one.losses.empty(); }));
  EXPECT_TRUE(two.arrivals.empty());
}

TEST_F(TcpLobby, OfSeveralAddressesTheFirstThatAnswersIsTaken) {
  for (const int error : {0, EHOSTUNREACH}) {
    internet_ = std::make_shared<FakeInternet>();
    Host one(*internet_, 1, 3);
    Host two(*internet_, 2, 3);
    for (std::size_t i = 0; i < 2; ++i)
      internet_->block(two.lobby.endpoints()[i].address, error);
    two.lobby.expect(one.address);
    one.lobby.call(two.address, wire::kTcpPackets);
    ASSERT_TRUE(run({&one, &two}, [&] { return !one.arrivals.empty(); }, 1000));
    expect_connected(one, two);
    EXPECT_EQ(one.arrivals[0].socket->remote(), two.lobby.endpoints()[2]);
  }
}

TEST_F(TcpLobby, WhereNothingAnswersTheCallEndsAndSaysWhereAndWhy) {
  Host one(*internet_, 1);
  Host two(*internet_, 2);
  internet_->block(two.lobby.endpoints()[0].address, 0);
  one.lobby.call(two.address, wire::kTcpPackets);
  EXPECT_FALSE(run({&one}, [&] { return !one.losses.empty(); }, 5000)) << "before its time";
  ASSERT_TRUE(run({&one}, [&] { return !one.losses.empty(); }, 6000));
  EXPECT_NE(one.losses[0].reason.find("no answer"), std::string::npos) << one.losses[0].reason;
}

TEST_F(TcpLobby, WithoutDescriptorsItIsTriedAgain) {
  Host one(*internet_, 1);
  Host two(*internet_, 2);
  internet_->weather.no_descriptors = 5;
  two.lobby.expect(one.address);
  one.lobby.call(two.address, wire::kTcpPackets);
  one.turn(now_);
  EXPECT_NE(one.lobby.troubles(two.address.uid).at(0).find("descriptors"), std::string::npos);
  ASSERT_TRUE(run({&one, &two}, [&] { return !one.arrivals.empty(); }));
  expect_connected(one, two);
}

TEST_F(TcpLobby, StrangersNeitherGetInNorKeepOthersOut) {
  Host one(*internet_, 1);
  Host two(*internet_, 2);
  two.lobby.expect(one.address);
  const auto outside = internet_->add_host();
  const auto door = two.lobby.endpoints()[0];
  std::vector<std::unique_ptr<Socket>> strangers;
  for (int i = 0; i < 300; ++i) {
    int error = 0;
    strangers.push_back(outside->connect(door, error));
    ASSERT_NE(strangers.back(), nullptr);
    if (i % 3 == 0) say(*strangers.back(), std::string(150, static_cast<char>(i)));
  }
  one.lobby.call(two.address, wire::kTcpPackets);
  ::testing::internal::CaptureStderr();
  const bool connected = run({&one, &two}, [&] { return !one.arrivals.empty(); }, 1500);
  const std::string log = ::testing::internal::GetCapturedStderr();
  ASSERT_TRUE(connected);
  EXPECT_EQ(std::ranges::count(log, '\n'), 1) << "of many strangers one is told of: " << log;
  EXPECT_NE(log.find("who calls speaks something else"), std::string::npos) << log;
  expect_connected(one, two);
  // Those that say nothing are shown out after a while.
  run({&two}, [] { return false; }, 3000);
  for (const auto& stranger : strangers) {
    char byte;
    const iovec piece{&byte, 1};
    ssize_t heard = 1;
    while (heard > 0)
      heard = stranger->receive(std::span(&piece, 1));
    EXPECT_NE(heard, -EAGAIN);
  }
}

TEST_F(TcpLobby, ConnectionsForLargeMessagesAreAgreedOnByTheirNumber) {
  Host one(*internet_, 1);
  Host two(*internet_, 2);
  two.lobby.expect(one.address);
  for (std::uint32_t stream = 0; stream <= 3; ++stream)
    one.lobby.call(two.address, stream);
  ASSERT_TRUE(run({&one, &two}, [&] { return two.arrivals.size() == 4; }));
  for (const auto& mine : one.arrivals) {
    say(*mine.socket, std::to_string(mine.stream));
    for (const auto& theirs : two.arrivals) {
      if (theirs.stream != mine.stream) continue;
      EXPECT_EQ(hear(*theirs.socket), std::to_string(mine.stream));
    }
  }
}

TEST_F(TcpLobby, AHostThatAnswersNothingIsLost) {
  Host one(*internet_, 1);
  Host two(*internet_, 2);
  two.lobby.expect(one.address);
  one.lobby.call(two.address, wire::kTcpPackets);
  ASSERT_TRUE(run({&one, &two}, [&] { return !one.arrivals.empty(); }));
  one.lobby.look_after(two.address.uid, one.arrivals[0].socket);
  internet_->weather.silence_ns = 9'000 * kMillisecond;
  run({&one}, [] { return false; }, 3000);
  EXPECT_TRUE(one.losses.empty());
  internet_->weather.silence_ns = 10'000 * kMillisecond;
  ASSERT_TRUE(run({&one}, [&] { return !one.losses.empty(); }, 3000));
  EXPECT_EQ(one.losses[0].process, two.address.uid);
}

TEST_F(TcpLobby, AForgottenProcessIsLetInNoMore) {
  Host one(*internet_, 1);
  Host two(*internet_, 2);
  two.lobby.expect(one.address);
  two.lobby.forget(one.address.uid);
  one.lobby.call(two.address, wire::kTcpPackets);
  run({&one, &two}, [] { return false; }, 1000);
  EXPECT_TRUE(one.arrivals.empty());
}

TEST_F(TcpLobby, PortsAreThoseOfTheRangeAndWithoutAFreeOneItSaysSo) {
  tcp::Config few = config();
  few.first_port = 5000;
  few.last_port = 5001;
  const auto network = internet_->add_host();
  Lobby first(Host::identity(1), network, few);
  Lobby second(Host::identity(2), network, few);
  Lobby third(Host::identity(3), network, few);
  ASSERT_TRUE(first.open().ok());
  ASSERT_TRUE(second.open().ok());
  EXPECT_EQ(first.endpoints()[0].port, 5000);
  EXPECT_EQ(second.endpoints()[0].port, 5001);
  const auto opened = third.open();
  ASSERT_FALSE(opened.ok());
  EXPECT_NE(opened.failure().message.find("MOONCAKE_MPI_TCP_PORTS"), std::string::npos);
}

TEST_F(TcpLobby, AnInterfaceThatIsNotThereIsNamed) {
  tcp::Config wrong = config();
  wrong.interfaces = {"eth7"};
  Lobby lobby(Host::identity(1), internet_->add_host(), wrong);
  const auto opened = lobby.open();
  ASSERT_FALSE(opened.ok());
  EXPECT_NE(opened.failure().message.find("eth7"), std::string::npos);
  EXPECT_NE(opened.failure().message.find("eth0 10.0.0.1"), std::string::npos);
}

}  // namespace
}  // namespace mooncake_mpi::testing
