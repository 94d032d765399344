#pragma once

// A connection whose bytes are encrypted: a socket and a cipher as one socket. It opens by itself,
// as bytes are sent and received; until then it takes none.

#include <array>
#include <cstddef>
#include <memory>

#include "drivers/linux/sockets.h"
#include "drivers/openssl/cipher.h"

namespace mooncake_mpi::tcp {

class CipherSocket final : public linux_driver::Socket {
 public:
  CipherSocket(std::shared_ptr<Socket> socket, std::unique_ptr<Cipher> cipher);

  ssize_t send(std::span<const iovec> pieces) noexcept override;
  ssize_t receive(std::span<const iovec> pieces) noexcept override;
  bool owes() const noexcept override { return !cipher_->to_send().empty(); }
  bool holds() const noexcept override { return holds_; }

  int descriptor() const noexcept override { return socket_->descriptor(); }
  int connect_status() noexcept override { return socket_->connect_status(); }
  std::uint64_t unconfirmed_bytes() const noexcept override { return socket_->unconfirmed_bytes(); }
  void keep_alive(std::uint64_t timeout_ns) noexcept override { socket_->keep_alive(timeout_ns); }
  std::uint64_t silence_ns() const noexcept override { return socket_->silence_ns(); }
  void cut() noexcept override { socket_->cut(); }
  linux_driver::Endpoint local() const noexcept override { return socket_->local(); }
  linux_driver::Endpoint remote() const noexcept override { return socket_->remote(); }

 private:
  // Zero once all is gone, or an errno below zero.
  ssize_t push() noexcept;

  const std::shared_ptr<Socket> socket_;
  const std::unique_ptr<Cipher> cipher_;
  bool holds_ = false;
  std::array<std::byte, 64 * 1024> arrived_;
};

}  // namespace mooncake_mpi::tcp
