#pragma once

// How two processes prove to each other over a connection who they are, before anything else goes
// over it: a challenge and a response each way, in three messages of fixed sizes (docs/wire.md).
// Does no I/O of its own. One of each connection, either end; one thread at a time.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "wire/identity.h"

namespace mooncake_mpi::wire {

class Handshake {
 public:
  using Bytes = std::span<const std::byte>;
  // The secret of the process of that uid, if it is known.
  using LookUp = std::function<std::optional<Secret>(const Uid&)>;

  enum class State : std::uint8_t { kGoesOn, kDone, kRefused };

  // We know whom we call.
  static Handshake connecting(const Identity& self, const Identity& peer);
  // Whoever it is says so.
  static Handshake accepting(const Identity& self, LookUp find_peer);

  Handshake(Handshake&& other) noexcept = default;
  Handshake& operator=(Handshake&& other) noexcept = default;
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;
  ~Handshake();

  // What goes out next, and how much of it went. Not empty at kDone where it is we who have the
  // last word, nor at kRefused where the other side is told why: that goes out before the rest.
  Bytes to_send() const noexcept { return Bytes(out_).subspan(sent_, out_bytes_ - sent_); }
  void sent(std::size_t bytes) noexcept { sent_ += bytes; }
  // What arrived, in pieces of any sizes; `used` of it was the handshake's, and never a byte behind
  // it.
  State received(Bytes in, std::size_t& used);
  State state() const noexcept { return state_; }

  // The other side; of one that accepts once it is done.
  const Uid& peer() const noexcept { return peer_.uid; }
  // The number that the other side gave this connection: both prove both. Once it is done.
  std::uint64_t peer_number() const noexcept { return peer_.number; }
  // Why it was refused, in words that follow the name of the other side.
  const char* refusal() const noexcept { return reason_.data(); }
  // One of both refused the other because it does not know it, which may change.
  bool may_be_repeated() const noexcept { return repeatable_; }
  // Of this connection alone, and known to nobody else; once it is done.
  Key session_key() const noexcept;

  // --- the messages ---
  static constexpr std::uint32_t kMagic = 0x53484d4d;  // "MMHS" in memory

  enum class Kind : std::uint8_t { kCall = 1, kAnswer = 2, kProof = 3, kSession = 4 };
  enum class Refusal : std::uint8_t { kNone = 0, kOtherVersion = 1, kUnknown = 2, kOther = 3 };

  // The same in every version.
  struct Head {
    std::uint32_t magic = kMagic;
    std::uint16_t version = 0;
    Kind kind{};
    Refusal refusal = Refusal::kNone;  // of an answer
  };
  struct Call {
    Head head;
    std::uint64_t number = 0;
    Uid from{};
    Uid to{};
    std::array<std::byte, 32> nonce{};
  };
  struct Answer {
    Head head;
    std::uint64_t number = 0;
    std::array<std::byte, 32> nonce{};
    Digest proof{};
  };
  struct Proof {
    Head head;
    Digest proof{};
  };
  static_assert(sizeof(Head) == 8 && sizeof(Call) == 80 && sizeof(Answer) == 80 &&
                sizeof(Proof) == 40);

 private:
  Handshake() = default;
  template <class Message>
  void send(const Message& message) noexcept;
  State refuse(const char* reason, std::uint16_t version = 0) noexcept;
  State refuse_and_say(Refusal refusal, const char* reason, std::uint16_t version = 0) noexcept;
  State check_head() noexcept;
  State on_message();
  State on_call();
  State on_answer();
  State on_proof();
  Digest proof_of(Kind kind) const noexcept;
  bool begin() noexcept;

  Identity self_;
  Identity peer_;
  LookUp find_peer_;
  Key key_{};
  Call call_;
  Answer answer_;
  Kind awaited_{};
  State state_ = State::kGoesOn;
  bool repeatable_ = false;
  std::array<char, 96> reason_{};
  std::array<std::byte, sizeof(Call)> in_;
  std::size_t in_bytes_ = 0;
  std::array<std::byte, sizeof(Call) + sizeof(Proof)> out_;
  std::size_t out_bytes_ = 0;
  std::size_t sent_ = 0;
};

}  // namespace mooncake_mpi::wire
