#include "wire/handshake.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "drivers/linux/random.h"
#include "wire/address.h"

namespace mooncake_mpi::wire {
namespace {

constexpr const char* kPurpose = "handshake";

template <class Message>
std::span<const std::byte> raw(const Message& message) noexcept {
  return std::as_bytes(std::span(&message, 1));
}

std::size_t bytes_of_kind(Handshake::Kind kind) noexcept {
  return kind == Handshake::Kind::kProof ? sizeof(Handshake::Proof) : sizeof(Handshake::Call);
}

}  // namespace

Handshake Handshake::connecting(const Identity& self, const Identity& peer) {
  Handshake made;
  made.self_ = self;
  made.peer_ = peer;
  made.awaited_ = Kind::kAnswer;
  if (!made.begin()) return made;
  if (!has_secret(peer.secret)) {
    made.refuse("has no secret to prove who it is");
    return made;
  }
  if (self.uid == peer.uid) {
    made.refuse("is this process itself");
    return made;
  }
  if (!linux_driver::fill_random(made.call_.nonce)) {
    made.refuse("cannot be called: no random numbers");
    return made;
  }
  made.key_ = pair_key(self, peer, kPurpose);
  made.call_.head = {.version = kVersion, .kind = Kind::kCall};
  made.call_.number = self.number;
  made.call_.from = self.uid;
  made.call_.to = peer.uid;
  made.send(made.call_);
  return made;
}

Handshake Handshake::accepting(const Identity& self, LookUp find_peer) {
  Handshake made;
  made.self_ = self;
  made.find_peer_ = std::move(find_peer);
  made.awaited_ = Kind::kCall;
  made.begin();
  return made;
}

Handshake::~Handshake() {
  wipe(self_.secret);
  wipe(peer_.secret);
  wipe(key_);
}

bool Handshake::begin() noexcept {
  if (has_secret(self_.secret)) return true;
  refuse("meets a process without a secret, this one");
  return false;
}

template <class Message>
void Handshake::send(const Message& message) noexcept {
  std::memcpy(out_.data() + out_bytes_, &message, sizeof message);
  out_bytes_ += sizeof message;
}

Handshake::State Handshake::refuse(const char* reason, std::uint16_t version) noexcept {
  state_ = State::kRefused;
  if (version == 0) {
    std::snprintf(reason_.data(), reason_.size(), "%s", reason);
  } else {
    std::snprintf(reason_.data(), reason_.size(), "%s (wire version %u, here %u)", reason,
                  unsigned{version}, unsigned{kVersion});
  }
  return state_;
}

// A caller that belongs here hears why it is not let in; nothing in that is secret.
Handshake::State Handshake::refuse_and_say(Refusal refusal, const char* reason,
                                           std::uint16_t version) noexcept {
  Answer answer;
  answer.head = {.version = kVersion, .kind = Kind::kAnswer, .refusal = refusal};
  send(answer);
  return refuse(reason, version);
}

Handshake::State Handshake::received(Bytes in, std::size_t& used) {
  used = 0;
  while (state_ == State::kGoesOn && used < in.size()) {
    // No message is waited for once its first bytes say that it is none.
    const std::size_t wanted = in_bytes_ < sizeof(Head) ? sizeof(Head) : bytes_of_kind(awaited_);
    const std::size_t taken = std::min(wanted - in_bytes_, in.size() - used);
    std::memcpy(in_.data() + in_bytes_, in.data() + used, taken);
    in_bytes_ += taken;
    used += taken;
    if (in_bytes_ == sizeof(Head)) {
      check_head();
    } else if (in_bytes_ == bytes_of_kind(awaited_)) {
      in_bytes_ = 0;
      on_message();
    }
  }
  return state_;
}

Handshake::State Handshake::check_head() noexcept {
  Head head;
  std::memcpy(&head, in_.data(), sizeof head);
  if (head.magic != kMagic) return refuse("speaks something else, not this library's protocol");
  if (head.version != kVersion) {
    constexpr const char* kReason = "runs another version of this library";
    // An answer to an answer would never end.
    if (head.kind != Kind::kCall || awaited_ != Kind::kCall) return refuse(kReason, head.version);
    return refuse_and_say(Refusal::kOtherVersion, kReason, head.version);
  }
  if (head.kind != awaited_) return refuse("breaks the protocol of the handshake");
  if (head.refusal == Refusal::kNone) return state_;
  if (head.kind != Kind::kAnswer) return refuse("breaks the protocol of the handshake");
  switch (head.refusal) {
    case Refusal::kOtherVersion:
      return refuse("runs another version of this library");
    case Refusal::kUnknown:
      repeatable_ = true;
      return refuse("does not know this process");
    case Refusal::kOther:
      return refuse("is not at that address: a process of another job is");
    case Refusal::kNone:
      break;
  }
  return refuse("refuses this process");
}

Handshake::State Handshake::on_message() {
  switch (awaited_) {
    case Kind::kCall:
      return on_call();
    case Kind::kAnswer:
      return on_answer();
    case Kind::kProof:
      return on_proof();
    case Kind::kSession:
      break;
  }
  return refuse("breaks the protocol of the handshake");
}

Handshake::State Handshake::on_call() {
  std::memcpy(&call_, in_.data(), sizeof call_);
  if (call_.to != self_.uid) {
    return refuse_and_say(Refusal::kOther, "looks for a process of another job");
  }
  const auto secret = find_peer_(call_.from);
  if (!secret || !has_secret(*secret) || call_.from == self_.uid) {
    repeatable_ = true;
    return refuse_and_say(Refusal::kUnknown, "is not known to this process");
  }
  peer_ = {call_.from, *secret, call_.number};
  key_ = pair_key(self_, peer_, kPurpose);
  if (!linux_driver::fill_random(answer_.nonce)) return refuse("finds no random numbers here");
  answer_.head = {.version = kVersion, .kind = Kind::kAnswer};
  answer_.number = self_.number;
  answer_.proof = proof_of(Kind::kAnswer);
  send(answer_);
  awaited_ = Kind::kProof;
  return state_;
}

Handshake::State Handshake::on_answer() {
  std::memcpy(&answer_, in_.data(), sizeof answer_);
  if (!same_bytes(answer_.proof, proof_of(Kind::kAnswer))) {
    return refuse("does not have the secret of the job");
  }
  peer_.number = answer_.number;
  Proof proof;
  proof.head = {.version = kVersion, .kind = Kind::kProof};
  proof.proof = proof_of(Kind::kProof);
  send(proof);
  return state_ = State::kDone;
}

Handshake::State Handshake::on_proof() {
  Proof proof;
  std::memcpy(&proof, in_.data(), sizeof proof);
  if (!same_bytes(proof.proof, proof_of(Kind::kProof))) {
    return refuse("does not have the secret of the job");
  }
  return state_ = State::kDone;
}

// Over all that both sides have said before it, and what it is for: what one side says proves
// nothing from the mouth of the other, in another connection or in another place of this one.
Digest Handshake::proof_of(Kind kind) const noexcept {
  if (kind == Kind::kAnswer) {
    return hmac_sha256(key_, {raw(call_), raw(answer_).first(sizeof answer_ - sizeof(Digest))});
  }
  const Head head{.version = kVersion, .kind = kind};
  return hmac_sha256(key_, {raw(call_), raw(answer_), raw(head)});
}

Key Handshake::session_key() const noexcept {
  return proof_of(Kind::kSession);
}

}  // namespace mooncake_mpi::wire
