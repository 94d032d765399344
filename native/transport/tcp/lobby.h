#pragma once

// How two processes get a connection: each may call the other, at several addresses at once; who is
// called lets nobody in that does not prove who it is. What is agreed on is handed to the
// transport. Everything here has a lock of its own, and needs nothing of the engine: the watcher
// works on it while the engine is busy, and strangers cost the engine nothing.

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "drivers/linux/epoll.h"
#include "drivers/linux/sockets.h"
#include "drivers/openssl/tls.h"
#include "transport/packet_sink.h"
#include "transport/tcp/config.h"
#include "transport/tcp/survey.h"
#include "wire/address.h"
#include "wire/handshake.h"
#include "wire/tcp.h"

namespace mooncake_mpi::tcp {

using linux_driver::Socket;

class Lobby {
 public:
  // A connection that both sides want.
  struct Arrival {
    ProcessId process{};
    std::uint32_t stream = wire::kTcpPackets;
    bool called = false;  // by this process
    std::shared_ptr<Socket> socket;
  };
  // A process that could not be called, and why.
  struct Loss {
    ProcessId process{};
    std::string reason;
  };

  Lobby(const wire::Address& self, std::shared_ptr<linux_driver::Network> network,
        const Config& config);
  ~Lobby();
  Lobby(const Lobby&) = delete;
  Lobby& operator=(const Lobby&) = delete;

  // Takes ports on the chosen addresses; false and why where there is none.
  Result<bool> open();
  const std::vector<AddressReport>& reports() const noexcept { return reports_; }
  std::vector<Endpoint> endpoints() const;

  // Who knows the secrets of all processes, so that nothing is kept of each that is expected.
  void ask(wire::Handshake::LookUp knows) { knows_ = std::move(knows); }
  // A process that may call, or be called; the first has it listen.
  void expect(const wire::Address& peer);
  // Calls it, unless it is being called for that already.
  void call(const wire::Address& peer, std::uint32_t stream);
  // It has ended, or is lost: its calls end, and it is let in no more.
  void forget(const ProcessId& process);
  // Both ends may listen to whether the other's host still answers.
  void look_after(const ProcessId& process, std::shared_ptr<Socket> socket);
  // Why it is not reached yet, a line for each address.
  std::vector<std::string> troubles(const ProcessId& process) const;

  // Goes on with what can go on; when it has to be called again. Any thread.
  std::uint64_t turn(std::uint64_t now);
  // What turn() waits for.
  int descriptor() const noexcept { return doors_.descriptor(); }
  bool has_news() const noexcept { return has_news_.load(std::memory_order_acquire); }
  // Behind what is in these. Throws for want of memory: then it has yet to be taken.
  void take_news(std::vector<Arrival>& arrivals, std::vector<Loss>& losses);
  // Around a fork.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }
  // In the child: the descriptors are closed, and nobody hears of it.
  void leave_behind() noexcept;

  static constexpr std::size_t kMostGuests = 64;

 private:
  // A connection that is not agreed on yet, either end.
  struct Visit {
    enum class Stage : std::uint8_t {
      kConnecting,  // the system is at it
      kHandshake,
      kClaiming,  // who called says what for, and waits for the answer
    };
    Visit(std::unique_ptr<Socket> from, wire::Handshake with) noexcept
        : socket(std::move(from)), handshake(std::move(with)) {}

    std::uint64_t id = 0;
    std::shared_ptr<Socket> socket;
    wire::Handshake handshake;
    Stage stage = Stage::kHandshake;
    Endpoint place;
    std::uint64_t since_ns = 0;
    std::uint32_t events = 0;         // that it waits for
    std::array<std::byte, 256> in{};  // arrived, and not used
    std::size_t in_bytes = 0;
  };

  using Key = std::pair<ProcessId, std::uint32_t>;
  struct Call {
    wire::Identity peer;
    std::vector<Endpoint> places;
    std::vector<std::string> troubles;  // by place; empty: none
    std::vector<std::unique_ptr<Visit>> visits;
    std::size_t next_place = 0;  // of this round
    std::uint64_t next_ns = 0;   // when the next place is tried
    std::uint64_t pause_ns = 0;  // after the round
    std::uint64_t began_ns = 0;
    std::uint64_t answered_ns = 0;  // when a place last did anything but refuse
    bool claimed = false;           // over one of its visits
  };
  struct Watched {
    ProcessId process{};
    std::weak_ptr<Socket> socket;
  };

  enum class Step : std::uint8_t {
    kWaits,
    kOver,
    kAgreed,  // of a call: it is over, too
  };

  void listen() noexcept;
  void on_event(std::uint64_t tag, std::uint64_t now);
  void accept_some(std::size_t door, std::uint64_t now);
  void close_doors(std::uint64_t until_ns) noexcept;
  void open_doors() noexcept;
  void sweep(std::uint64_t now);
  void sweep_call(Call& call, const Key& key, std::uint64_t now);
  void give_up(const Call& call, const Key& key);
  void check_silence(std::uint64_t now);

  Step advance_guest(Visit& visit);
  Step answer_claim(Visit& visit);
  void tell_of(const Visit& visit);
  Step advance(Call& call, const Key& key, Visit& visit, std::uint64_t now);
  Step advance_handshake(Call& call, const Key& key, Visit& visit, std::uint64_t now);
  Step claim(Call& call, const Key& key, Visit& visit);
  Step take_verdict(Call& call, const Key& key, Visit& visit, std::uint64_t now);
  void start_visit(Call& call, const Key& key, std::uint64_t now);
  bool encrypts(const Visit& visit) const noexcept;
  bool can_encrypt() noexcept;
  // The connection as both sides want it; one that is cut where that cannot be had.
  std::shared_ptr<Socket> finished(Visit& visit, bool called);
  std::optional<wire::Secret> secret_of(const ProcessId& process) const;
  bool grants(const ProcessId& process, std::uint32_t stream) const;
  void arrive(const Key& key, bool called, Visit& visit);
  void wait_for_events(Visit& visit);

  const wire::Identity self_;
  const std::shared_ptr<linux_driver::Network> network_;
  const Config config_;
  std::unique_ptr<openssl_driver::Tls> tls_;  // once it is needed
  bool no_tls_ = false;
  std::vector<AddressReport> reports_;
  linux_driver::Epoll doors_;

  mutable std::mutex mutex_;  // guards everything below
  std::vector<std::unique_ptr<linux_driver::Listener>> listeners_;
  bool listening_ = false;
  std::uint64_t doors_closed_until_ns_ = 0;  // not zero: nobody is let in before
  wire::Handshake::LookUp knows_;
  std::map<ProcessId, wire::Secret> expected_;  // where there is nobody to ask
  std::set<ProcessId> forgotten_;
  std::map<Key, Call> calls_;
  std::vector<std::unique_ptr<Visit>> guests_;  // the oldest first
  std::map<ProcessId, std::uint32_t> agreed_;   // a bit for each stream
  std::vector<Watched> watched_;
  std::uint64_t next_check_ns_ = 0;
  std::uint64_t next_sweep_ns_ = 0;
  std::uint64_t next_id_ = 1;
  bool told_of_stranger_ = false;
  std::vector<Arrival> arrivals_;
  std::vector<Loss> losses_;
  std::atomic<bool> has_news_{false};
};

}  // namespace mooncake_mpi::tcp
