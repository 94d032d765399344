#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "drivers/linux/epoll.h"
#include "drivers/linux/sockets.h"
#include "transport/tcp/channel.h"
#include "transport/tcp/config.h"
#include "transport/tcp/lobby.h"
#include "transport/tcp/mover.h"
#include "transport/transport.h"
#include "transport/watcher.h"

namespace mooncake_mpi::tcp {

// Other hosts, and this one on request: connections over whatever network there is.
class TcpTransport final : public Transport, private Watcher::Client {
 public:
  // Fails, with the reason in one line, where peers could call at no address.
  static Result<std::unique_ptr<TcpTransport>> create(
      const wire::Address& self, std::shared_ptr<linux_driver::Network> network,
      const Config& config);
  ~TcpTransport() override;

  std::string_view name() const noexcept override { return "tcp"; }
  void describe(wire::Address& address) const override;
  std::string unreachable_reason(const wire::Address& peer) const override;
  void expect(const wire::Address& peer) override;
  Result<Way> connect(const wire::Address& address, Peer& peer) override;
  bool dormant() const noexcept override { return !open_; }
  unsigned poll(PacketSink& sink) override;
  void drain(Peer& peer, PacketSink& sink) override;
  void forget(Peer& peer) override;
  void start(Waker& waker) override {
    waker_ = &waker;
    lobby_.ask([&waker](const ProcessId& process) { return waker.secret_known_of(process); });
  }
  void stop() override { watcher_.stop(); }
  void before_sleep() override;
  bool drained() override;
  std::uint64_t patience_ns() const noexcept override {
    return channels_.empty() ? 0 : config_.patience_ns;
  }
  void before_fork() override;
  void after_fork_in_parent() override;
  void after_fork_in_child() noexcept override;

  const Config& config() const noexcept { return config_; }
  Lobby& lobby() noexcept { return lobby_; }

 private:
  friend class TcpChannel;
  friend class TcpMover;

  static constexpr std::size_t kInboxBytes = 256 * 1024;
  static constexpr std::size_t kTurns = 4;

  TcpTransport(const wire::Address& self, std::shared_ptr<linux_driver::Network> network,
               const Config& config);

  unsigned take_news(PacketSink& sink);
  bool take(Lobby::Arrival& arrival, PacketSink& sink);
  unsigned look(PacketSink& sink);
  unsigned attend(PacketSink& sink);
  // What is answered meanwhile goes at its end, when all of it is known, however that comes.
  class Polling {
   public:
    explicit Polling(TcpTransport& transport) noexcept : transport_(transport) {
      ++transport.polls_;
      transport.polling_ = true;
    }
    ~Polling() {
      transport_.polling_ = false;
      transport_.push();
    }
    Polling(const Polling&) = delete;
    Polling& operator=(const Polling&) = delete;

   private:
    TcpTransport& transport_;
  };
  void push() noexcept;
  bool is_forgotten(std::uint64_t now) noexcept;
  unsigned report_lost(PacketSink& sink);
  void tell_credits(std::uint64_t now) noexcept;
  void begin();
  void add(TcpChannel& channel);
  TcpChannel* find(const ProcessId& process) const noexcept;
  TcpChannel* find(const Peer& peer) const noexcept;

  // --- for channels and movers ---
  std::span<std::byte> inbox() noexcept { return inbox_; }
  void attend_later(TcpChannel& channel) noexcept;
  void owes_credit(TcpChannel& channel) noexcept;
  // It has packets that go with the next poll; and it has none any more.
  void gathers(TcpChannel& channel, std::uint64_t now) noexcept;
  void has_gathered() noexcept;
  // Somebody sees to it where nobody polls.
  bool watches() const noexcept { return watcher_.running() && alarms_; }
  void let_go(TcpChannel& channel) noexcept;
  void let_go(const Socket& socket) noexcept { sockets_.remove(socket.descriptor()); }
  void remove(TcpChannel& channel) noexcept;
  void nudge() noexcept { watcher_.nudge(); }
  linux_driver::Epoll& sockets() noexcept { return sockets_; }

  // The watcher's.
  std::uint64_t on_turn(std::span<const epoll_event> events) override;

  const wire::Address self_;
  const Config config_;
  Lobby lobby_;
  linux_driver::Epoll sockets_;  // of all channels and movers; a tag is a channel's number
  Waker* waker_ = nullptr;
  bool open_ = false;  // a process may call, or was called

  std::vector<std::byte> inbox_;
  TcpChannel::Held held_;
  std::map<ProcessId, TcpChannel*> channels_;
  std::vector<TcpChannel*> by_number_;    // nullptr: gone
  std::vector<TcpChannel*> attention_;    // there is room for all
  std::vector<TcpChannel*> owing_;        // likewise
  std::vector<Lobby::Arrival> arrivals_;  // that have yet to be taken
  std::vector<Lobby::Loss> losses_;       // likewise
  std::uint64_t looked_ns_ = 0;
  std::uint32_t looks_ = 0;
  std::uint32_t polls_ = 0;
  bool polling_ = false;
  std::uint32_t gathering_ = 0;  // channels
  bool alarms_ = true;           // there is a timer
  // Since when something is gathered, zero: nothing; and whether the watcher is going to look.
  std::atomic<std::uint64_t> gathered_since_ns_{0};
  std::atomic<bool> alarm_is_set_{false};
  std::atomic<bool> wakes_soon_{false};
  std::uint64_t soon_ns_ = 0;  // the watcher's
  Watcher watcher_;            // last: its thread uses what is above
};

}  // namespace mooncake_mpi::tcp
