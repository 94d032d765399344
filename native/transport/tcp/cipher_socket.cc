#include "transport/tcp/cipher_socket.h"

#include <cerrno>
#include <new>
#include <utility>

namespace mooncake_mpi::tcp {

CipherSocket::CipherSocket(std::shared_ptr<Socket> socket, std::unique_ptr<Cipher> cipher)
    : socket_(std::move(socket)), cipher_(std::move(cipher)) {
  push();  // the first words, on a connection that has room for them
}

ssize_t CipherSocket::push() noexcept {
  for (auto out = cipher_->to_send(); !out.empty(); out = cipher_->to_send()) {
    const iovec piece{const_cast<std::byte*>(out.data()), out.size()};
    const ssize_t sent = socket_->send(std::span(&piece, 1));
    if (sent <= 0) return sent == 0 ? -EAGAIN : sent;
    cipher_->sent(static_cast<std::size_t>(sent));
  }
  return 0;
}

// What was encrypted counts as sent, though it may have yet to go: owes() says so.
ssize_t CipherSocket::send(std::span<const iovec> pieces) noexcept {
  try {
    ssize_t done = 0;
    if (const ssize_t pushed = push(); pushed != 0) return pushed;
    for (const iovec& piece : pieces) {
      const auto* data = static_cast<const std::byte*>(piece.iov_base);
      const std::size_t taken = cipher_->write({data, piece.iov_len});
      done += static_cast<ssize_t>(taken);
      if (taken < piece.iov_len) break;
    }
    if (cipher_->state() == Cipher::State::kFailed) return -EBADMSG;
    const ssize_t pushed = push();
    if (pushed != 0 && pushed != -EAGAIN) return pushed;
    return done == 0 && !pieces.empty() ? -EAGAIN : done;
  } catch (const std::bad_alloc&) {  // before anything of it was encrypted, or there is no way back
    return -ENOMEM;
  }
}

// Fills all pieces as far as it can: what is decrypted and not taken, no event tells of.
ssize_t CipherSocket::receive(std::span<const iovec> pieces) noexcept {
  try {
    ssize_t done = 0;
    bool ended = false;
    ssize_t error = -EAGAIN;
    for (const iovec& piece : pieces) {
      auto* data = static_cast<std::byte*>(piece.iov_base);
      for (std::size_t filled = 0; filled < piece.iov_len && !ended;) {
        const std::size_t got = cipher_->read({data + filled, piece.iov_len - filled});
        filled += got;
        done += static_cast<ssize_t>(got);
        if (got != 0) continue;
        if (cipher_->state() == Cipher::State::kClosed) {
          error = 0;
          ended = true;
          break;
        }
        if (cipher_->state() == Cipher::State::kFailed) {
          error = -EBADMSG;
          ended = true;
          break;
        }
        const iovec room{arrived_.data(), arrived_.size()};
        const ssize_t received = socket_->receive(std::span(&room, 1));
        if (received <= 0) {
          error = received;
          ended = true;
          break;
        }
        cipher_->received(std::span(arrived_).first(static_cast<std::size_t>(received)));
      }
    }
    holds_ = !ended;  // perhaps
    push();           // an answer of the cipher's own; what fails is seen at the next send
    return done != 0 ? done : error;
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
}

}  // namespace mooncake_mpi::tcp
