// A stranger's part in handshakes, out of bytes: for the random tests and the fuzzer. Stops the
// program when somebody is let in who has no secret, or a byte is taken that is none of the
// handshake's. One thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <span>
#include <vector>

#include "wire/handshake.h"

namespace mooncake_mpi::wire {

inline Identity test_identity(int first, std::uint64_t number = 0) {
  Identity identity;
  for (std::size_t i = 0; i < identity.uid.size(); ++i)
    identity.uid[i] = static_cast<std::byte>(first + static_cast<int>(i));
  for (std::size_t i = 0; i < identity.secret.size(); ++i)
    identity.secret[i] = static_cast<std::byte>(first + 100 + static_cast<int>(i));
  identity.number = number;
  return identity;
}

inline Handshake::LookUp knows(const Identity& process) {
  return [process](const Uid& uid) {
    return uid == process.uid ? std::optional(process.secret) : std::nullopt;
  };
}

// All of it, in pieces of so many bytes, each on the heap and of exactly this size. Returns how
// much was taken.
inline std::size_t feed(Handshake& end, std::span<const std::byte> bytes,
                        std::size_t piece = SIZE_MAX) {
  std::size_t taken = 0;
  while (taken < bytes.size()) {
    const auto part = bytes.subspan(taken, std::min(piece, bytes.size() - taken));
    std::size_t used = 0;
    end.received(std::vector<std::byte>(part.begin(), part.end()), used);
    if (used > part.size()) std::abort();
    taken += used;
    if (end.state() != Handshake::State::kGoesOn) break;
    if (used != part.size()) std::abort();  // what goes on takes all
  }
  return taken;
}

// What one end has to say.
inline std::vector<std::byte> taken_from(Handshake& end) {
  const std::vector<std::byte> bytes(end.to_send().begin(), end.to_send().end());
  end.sent(bytes.size());
  return bytes;
}

// The first byte says which end hears the rest, and in which pieces. Both ends then have it from
// an honest partner, with the rest as changes: places and bytes to be mixed in.
inline void play_handshake(std::span<const std::byte> data) {
  if (data.empty()) return;
  const auto choice = static_cast<unsigned>(data[0]);
  const std::size_t piece = 1 + (choice >> 1) % 100;
  data = data.subspan(1);
  const Identity caller = test_identity(1, 7);
  const Identity called = test_identity(2, 9);

  Handshake ends[2] = {Handshake::connecting(caller, called),
                       Handshake::accepting(called, knows(caller))};
  Handshake& alone = ends[choice & 1];
  if (feed(alone, data, piece) > sizeof(Handshake::Call) + sizeof(Handshake::Proof)) std::abort();
  if (alone.state() == Handshake::State::kDone) std::abort();
  // The same to one that has been called and has answered.
  Handshake honest = Handshake::connecting(caller, called);
  Handshake answering = Handshake::accepting(called, knows(caller));
  feed(answering, taken_from(honest));
  taken_from(answering);
  feed(answering, data, piece);
  if (answering.state() == Handshake::State::kDone) std::abort();

  Handshake connecting = Handshake::connecting(caller, called);
  Handshake accepting = Handshake::accepting(called, knows(caller));
  bool changed_to[2] = {false, false};
  for (int turn = 0; turn < 3; ++turn) {
    Handshake& from = turn % 2 == 0 ? connecting : accepting;
    Handshake& to = turn % 2 == 0 ? accepting : connecting;
    std::vector<std::byte> bytes = taken_from(from);
    if (!bytes.empty() && data.size() >= 2 && choice % 3 == static_cast<unsigned>(turn)) {
      const std::size_t at = static_cast<std::size_t>(data[0]) % bytes.size();
      bytes[at] ^= data[1];
      changed_to[turn % 2] |= data[1] != std::byte{0};
      data = data.subspan(2);
    }
    feed(to, bytes, piece);
  }
  const bool done[2] = {accepting.state() == Handshake::State::kDone,
                        connecting.state() == Handshake::State::kDone};
  if ((changed_to[0] || changed_to[1]) && done[0]) std::abort();
  if (changed_to[1] && done[1]) std::abort();
  if (!changed_to[0] && !changed_to[1] && !(done[0] && done[1])) std::abort();
}

}  // namespace mooncake_mpi::wire
