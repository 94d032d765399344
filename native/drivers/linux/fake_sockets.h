// Hosts in memory, for tests: what a network can do to a program happens when the test says so. The
// bytes go through socket pairs of the system, so that descriptors are ready when they should be.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "drivers/linux/sockets.h"

namespace mooncake_mpi::linux_driver {

class FakeInternet : public std::enable_shared_from_this<FakeInternet> {
 public:
  // What befalls every host. Any thread.
  struct Weather {
    std::atomic<std::uint32_t> most_bytes{UINT32_MAX};  // of one send or receive
    std::atomic<std::uint32_t> stall_every{0};   // so many calls about one finds nothing; 0: none
    std::atomic<std::uint32_t> buffer_bytes{0};  // of a socket; 0: the system's
    std::atomic<int> refusals{0};                // connects that nobody answers
    std::atomic<int> no_descriptors{0};          // connects and accepts that find none
    std::atomic<bool> last_first{false};         // who called last is let in first
    std::atomic<bool> held{false};               // who calls waits outside
    std::atomic<std::uint64_t> silence_ns{0};    // as every socket tells it
    std::atomic<std::uint64_t> resets{0};        // each more breaks all connections
  };
  Weather weather;

  // The network as a new host sees it, with addresses of its own: as many, one interface each.
  std::shared_ptr<Network> add_host(int addresses = 1);
  // Nobody gets through to that address any more; connects to it end with this errno, or never: 0.
  void block(const IpAddress& address, int error);
  std::uint64_t connects() const noexcept { return connects_.load(); }
  // Calls that sent something.
  std::uint64_t sends() const noexcept { return sends_.load(); }
  void count_send() noexcept { ++sends_; }

 private:
  friend class FakeNetwork;
  friend class FakeListener;

  struct Door {
    std::deque<std::unique_ptr<Socket>> waiting;
    int bell = -1;  // an eventfd that is readable while somebody waits
    bool listens = false;
  };

  std::mutex mutex_;                                    // guards what follows
  std::map<std::string, std::shared_ptr<Door>> doors_;  // by endpoint
  std::map<std::string, int> blocked_;                  // by address
  int hosts_ = 0;
  std::uint16_t next_port_ = 40'000;
  std::atomic<std::uint64_t> connects_{0};
  std::atomic<std::uint64_t> sends_{0};
};

}  // namespace mooncake_mpi::linux_driver
