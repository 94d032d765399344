#pragma once

// What lies between the frames of a connection and its socket where they are encrypted: plain bytes
// in, bytes for the wire out, and back. Does no I/O of its own. One of each connection, either end;
// one thread at a time.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace mooncake_mpi {

class Cipher {
 public:
  enum class State : std::uint8_t {
    kGoesOn,  // both ends still agree on keys; nothing plain goes either way
    kOpen,
    kClosed,  // the other end says that nothing more comes
    kFailed,  // for good: nothing that arrived since is given out
  };

  virtual ~Cipher() = default;

  // What arrived, in pieces of any sizes; all of it is taken. What is plain of it is there to be
  // read, and is read before more is given.
  virtual State received(std::span<const std::byte> wire) = 0;
  // Plain bytes, as many as there are or fit; zero: there are none now.
  virtual std::size_t read(std::span<std::byte> into) = 0;
  // How many of these were taken; zero before it is open, and while much has yet to be sent.
  virtual std::size_t write(std::span<const std::byte> plain) = 0;
  // What goes out next, and how much of it went. A write makes more of it, and moves it.
  virtual std::span<const std::byte> to_send() const noexcept = 0;
  virtual void sent(std::size_t bytes) noexcept = 0;
  // Nothing more is written; the other end is told.
  virtual void close() = 0;

  State state() const noexcept { return state_; }
  // Why it failed, in words.
  const std::string& failure() const noexcept { return failure_; }

 protected:
  State state_ = State::kGoesOn;
  std::string failure_;
};

}  // namespace mooncake_mpi
