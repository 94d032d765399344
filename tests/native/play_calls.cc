// The calls of a play: sends and receives of every kind, and ways to leave them. One thread plays
// every rank.
#include <utility>

#include "memory/pieces.h"
#include "play.h"

namespace mooncake_mpi::testing {

Live& Play::add(int rank, Operation& operation) {
  live_.push_back({});
  live_.back().rank = rank;
  live_.back().operation = &operation;
  return live_.back();
}

void Play::send() {
  if (live_.size() >= kMostLive || revoked_) return;
  const int rank = living();
  const std::uint64_t bytes = choices_.of(kSizes);
  auto message = std::make_unique<MessageBytes>(seed_of(bytes), bytes);
  const SendMode mode = choices_.below(3) == 0 ? SendMode::kSynchronous : SendMode::kStandard;
  const int dest = static_cast<int>(choices_.below(kRanks));
  Live& sent = add(rank, job_[rank].send(dest, tag(), message->buffer(), mode));
  sent.message = std::move(message);
  sent.dest = dest;
}

void Play::send_pieces() {
  if (live_.size() >= kMostLive || revoked_) return;
  const int rank = living();
  const std::uint64_t bytes = choices_.of(kSizes);
  if (bytes < 4) return;
  auto message = std::make_unique<MessageBytes>(seed_of(bytes), bytes);
  auto pieces = std::make_unique<Pieces>();
  const std::uint64_t cut = 1 + choices_.word() % (bytes - 2);
  pieces->add(message->bytes().data(), cut);
  pieces->add(message->bytes().data() + cut, bytes - cut);
  const int dest = static_cast<int>(choices_.below(kRanks));
  Live& sent = add(rank, job_[rank].send_pieces(dest, tag(), std::move(pieces)));
  sent.message = std::move(message);
  sent.dest = dest;
}

void Play::send_now() {
  if (revoked_) return;
  const int rank = living();
  const std::uint64_t bytes = choices_.below(1'024);
  MessageBytes message(seed_of(bytes), bytes);
  job_[rank].try_send_now(static_cast<int>(choices_.below(kRanks)), tag(), message.buffer());
}

void Play::receive() {
  if (live_.size() >= kMostLive) return;
  const int rank = living();
  auto buffer = std::make_unique<GuardedBuffer>(choices_.of(kSizes));
  Live& posted = add(rank, job_[rank].receive(any_or(kRanks, kAnySource), any_or(kTags, kAnyTag),
                                              buffer->buffer()));
  posted.receive = true;
  posted.buffer = std::move(buffer);
}

void Play::receive_any_size() {
  if (live_.size() >= kMostLive) return;
  const int rank = living();
  add(rank, job_[rank].receive_any_size(any_or(kRanks, kAnySource), any_or(kTags, kAnyTag)))
      .receive = true;
}

void Play::receive_matched() {
  if (live_.size() >= kMostLive) return;
  const int rank = living();
  UnexpectedMessage* message =
      job_[rank].improbe(any_or(kRanks, kAnySource), any_or(kTags, kAnyTag));
  if (message == nullptr) return;
  auto buffer = std::make_unique<GuardedBuffer>(choices_.of(kSizes));
  Live& posted = add(rank, job_[rank].receive_matched(*message, buffer->buffer()));
  posted.receive = true;
  posted.buffer = std::move(buffer);
}

Live* Play::pick(bool receives_only) {
  if (live_.empty()) return nullptr;
  Live& found = live_[choices_.below(static_cast<std::uint32_t>(live_.size()))];
  const bool usable = !dead_[found.rank] && (found.receive || !receives_only);
  return usable && !is_finished(found) ? &found : nullptr;
}

void Play::cancel() {
  Live* live = pick(true);
  if (live != nullptr) job_[live->rank].cancel(*live->operation);
}

// Its handle is gone: the operation ends by itself, and its memory stays until then.
void Play::release() {
  Live* live = pick(false);
  if (live == nullptr) return;
  job_[live->rank].release(*live->operation);
  bury(*live);
}

// A blocking call is left in the middle.
void Play::leave() {
  Live* live = pick(false);
  if (live == nullptr) return;
  Party& party = job_[live->rank];
  if (live->receive) {
    if (live->buffer == nullptr || party.cancel(*live->operation)) return;
    bool left = false;
    for (int turn = 0; turn < 30 && !left && !is_finished(*live); ++turn) {
      party.inspect([&](Protocol& protocol) { left = protocol.give_up(*live->operation); });
      if (!left) job_.step();
    }
    if (!left) return;
    // Nothing touches its memory from now on.
    retire(*live);
    live->operation = nullptr;
    std::swap(*live, live_.back());
    live_.pop_back();
  } else {
    bool left = false;
    for (int turn = 0; turn < 30 && !left; ++turn) {
      party.inspect([&](Protocol& protocol) { left = protocol.leave_send(*live->operation); });
      if (!left) job_.step();
    }
    if (!left || is_finished(*live)) return;
    // An adapter that was given the key may read the old place until it hears of the new one.
    grave_.push_back({});
    grave_.back().message = std::move(live->message);
  }
}

}  // namespace mooncake_mpi::testing
