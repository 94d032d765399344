// Stream sockets between hosts, as the system has them; tests have others (fake_sockets.h). Nothing
// here blocks. Any thread; of one socket, one at a time.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "drivers/linux/ip_address.h"

namespace mooncake_mpi::linux_driver {

// One address of one interface.
struct Interface {
  std::string name;
  std::uint32_t index = 0;
  IpAddress address;
  unsigned prefix_bits = 0;
  bool up = false;
  bool bridge = false;  // of containers or virtual machines on this host
};

class Socket {
 public:
  virtual ~Socket() = default;
  virtual int descriptor() const noexcept = 0;
  // How many bytes went, or arrived: zero at the end of what arrives; otherwise an errno below
  // zero, -EAGAIN: not now.
  virtual ssize_t send(std::span<const iovec> pieces) noexcept = 0;
  virtual ssize_t receive(std::span<const iovec> pieces) noexcept = 0;
  // Of one that encrypts: bytes that were taken have yet to go, which any send tries; and bytes may
  // have arrived that no event tells of.
  virtual bool owes() const noexcept { return false; }
  virtual bool holds() const noexcept { return false; }
  // Of one that connects: zero once it is connected, EINPROGRESS, or why it is not.
  virtual int connect_status() noexcept = 0;
  // Bytes that the other side's system has not confirmed.
  virtual std::uint64_t unconfirmed_bytes() const noexcept = 0;
  // The systems of both hosts say to each other now and then that they are there, several times in
  // so long; and for how long the other one has answered nothing, zero while it answers.
  virtual void keep_alive(std::uint64_t timeout_ns) noexcept = 0;
  virtual std::uint64_t silence_ns() const noexcept = 0;
  // Nothing goes or comes over it any more; any thread.
  virtual void cut() noexcept = 0;
  virtual Endpoint local() const noexcept = 0;
  virtual Endpoint remote() const noexcept = 0;
};

// A port that is taken at once, and listened on later.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual int descriptor() const noexcept = 0;
  virtual Endpoint endpoint() const noexcept = 0;
  virtual int listen() noexcept = 0;  // zero, or an errno
  // nullptr and an errno, EAGAIN where nobody waits.
  virtual std::unique_ptr<Socket> accept(int& error) = 0;
};

class Network {
 public:
  virtual ~Network() = default;
  virtual std::vector<Interface> interfaces() = 0;
  // Port zero: any. nullptr and an errno.
  virtual std::unique_ptr<Listener> bind(const Endpoint& endpoint, int& error) = 0;
  virtual std::unique_ptr<Socket> connect(const Endpoint& endpoint, int& error) = 0;
};

std::shared_ptr<Network> system_network();
// A stream that the program has as a descriptor already.
std::unique_ptr<Socket> adopt_socket(int descriptor);

}  // namespace mooncake_mpi::linux_driver
