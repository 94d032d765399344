// What happens in a play, what is checked of it, and how it ends. One thread plays every rank,
// beside the threads of their engines.
#include "engine_play.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>

#include "play.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif
#if !defined(__SANITIZE_ADDRESS__)  // which keeps what is freed by itself
#include "kept_arrays.h"
#endif

// A message may claim any length: that there is no such memory is an answer.
#if defined(__SANITIZE_ADDRESS__)
extern "C" __attribute__((visibility("default"), used)) const char* __asan_default_options() {
  return "allocator_may_return_null=1";
}
#elif defined(__SANITIZE_THREAD__)
extern "C" __attribute__((visibility("default"), used)) const char* __tsan_default_options() {
  return "allocator_may_return_null=1";
}
#endif

namespace mooncake_mpi::testing {

void Play::run() {
  while (choices_.any() && !::testing::Test::HasFatalFailure()) {
    act();
    reap();
  }
  honest_ ? end_honestly() : end_with_the_others_dead();
}

void Play::act() {
  switch (choices_.below(honest_ ? 13 : 20)) {
    case 0:
    case 1:
      for (std::uint32_t turn = choices_.below(8); turn > 0; --turn)
        job_.step();
      break;
    case 2:
    case 3:
      return send();
    case 4:
      return send_pieces();
    case 5:
      return send_now();
    case 6:
    case 7:
      return receive();
    case 8:
      return receive_any_size();
    case 9:
      return receive_matched();
    case 10:
      return cancel();
    case 11:
      return release();
    case 12:
      return leave();
    case 13:
      return rarely();
    default:
      return lie();
  }
}

void Play::rarely() {
  if (choices_.below(6) != 0) return;
  switch (choices_.below(4)) {
    case 0:
      revoked_ = true;
      return job_[living()].revoke();
    case 1:
      return kill(1 + static_cast<int>(choices_.below(kRanks - 1)));
    case 2:
      job_[living()].attend(choices_.below(2) == 0);
      return;
    default:
      job_[living()].acknowledge(choices_.below(kRanks));
  }
}

void Play::kill(int rank) {
  if (dead_[rank]) return;
  job_.kill(rank);
  dead_[rank] = true;
  for (std::size_t i = live_.size(); i-- > 0;) {  // nobody looks at its operations any more
    if (live_[i].rank == rank) bury(live_[i]);
  }
}

// Peers that lie, and those that were lied to, may go on writing what they were once told of. So
// the memory stays; that this process itself no longer touches it is for the sanitizer to see.
void Play::retire(Live& live) {
  if (honest_) {
    live.buffer.reset();
    live.message.reset();
  } else {
    if (live.rank == 0) shut(live, true);
    grave_.push_back({});
    grave_.back().buffer = std::move(live.buffer);
    grave_.back().message = std::move(live.message);
  }
}

void Play::shut([[maybe_unused]] const Live& live, [[maybe_unused]] bool closed) const {
#if defined(__SANITIZE_ADDRESS__)
  for (const Bytes bytes :
       {live.buffer != nullptr ? live.buffer->bytes() : Bytes{},
        live.message != nullptr && !stays_readable_ ? live.message->bytes() : Bytes{}}) {
    if (closed) {
      ASAN_POISON_MEMORY_REGION(bytes.data(), bytes.size());
    } else {
      ASAN_UNPOISON_MEMORY_REGION(bytes.data(), bytes.size());
    }
  }
#endif
}

void Play::bury(Live& live) {
  grave_.push_back(std::move(live));
  live = std::move(live_.back());
  live_.pop_back();
}

void Play::check(const Live& live) {
  const Completion& completion = live.operation->completion;
  if (!honest_ || !live.receive || completion.cancelled) return;
  ASSERT_TRUE(completion.error == mooncake_mpi::Error::kNone ||
              completion.error == mooncake_mpi::Error::kTruncate)
      << error_name(completion.error);
  const auto seed = seed_of(completion.message_bytes > completion.bytes ? completion.message_bytes
                                                                        : completion.bytes);
  if (live.buffer != nullptr) live.buffer->expect(seed, completion.bytes);
}

void Play::reap() {
  for (std::size_t i = live_.size(); i-- > 0;) {
    Live& live = live_[i];
    if (dead_[live.rank] || !is_finished(live)) continue;
    check(live);
    job_[live.rank].release(*live.operation);
    retire(live);
    std::swap(live, live_.back());
    live_.pop_back();
  }
}

void Play::end_honestly() {
  // A receive for every message that was sent and has none; what was posted in vain is cancelled.
  bool idle = false;
  for (int turn = 0; turn < 400 && !::testing::Test::HasFatalFailure(); ++turn) {
    idle ? job_.settle() : job_.settle(Job::kFewRounds);
    reap();
    bool sends = false;
    for (const Live& live : live_)
      sends |= !live.receive;
    bool took = false;
    for (int rank = 0; rank < kRanks; ++rank) {
      UnexpectedMessage* message = job_[rank].improbe(kAnySource, kAnyTag);
      if (message == nullptr) continue;
      auto buffer = std::make_unique<GuardedBuffer>(200'000);
      Live& posted = add(rank, job_[rank].receive_matched(*message, buffer->buffer()));
      posted.receive = true;
      posted.buffer = std::move(buffer);
      took = true;
    }
    if (idle && !sends && !took) break;
    idle = !sends && !took;
  }
  for (Live& live : live_) {
    if (live.receive) job_[live.rank].cancel(*live.operation);
  }
  EXPECT_TRUE(job_.run_until([&] {
    reap();
    return live_.empty();
  })) << live_.size()
      << " operations are left";
}

void Play::end_with_the_others_dead() {
  job_.settle();
  reap();
  for (int rank = 1; rank < kRanks; ++rank)
    kill(rank);
  const bool ended = job_.run_until([&] {
    for (Live& live : live_) {
      const auto done = live.operation->done.load();
      // From any source: interrupted, and still posted. Or from this rank itself.
      if (done != Operation::kFinished && live.receive) job_[0].cancel(*live.operation);
    }
    drain_own_messages();
    reap();
    return live_.empty();
  });
  if (!ended) {
    for (const Live& live : live_) {
      ADD_FAILURE() << (live.receive ? "a receive" : "a send") << " to " << live.dest
                    << " in stage " << static_cast<int>(live.operation->stage) << " is left";
    }
  }
}

// Rank 0's sends to itself wait for their receives.
void Play::drain_own_messages() {
  UnexpectedMessage* message = job_[0].improbe(kAnySource, kAnyTag);
  if (message == nullptr || live_.size() > 2 * kMostLive) return;
  auto buffer = std::make_unique<GuardedBuffer>(200'000);
  Live& posted = add(0, job_[0].receive_matched(*message, buffer->buffer()));
  posted.receive = true;
  posted.buffer = std::move(buffer);
}

void play(Choices& choices, const Lane& lane, bool honest) {
#if !defined(__SANITIZE_ADDRESS__)  // which keeps what is freed by itself
  // Peers that lie make others write what the engine had allocated for a message and has freed: in
  // one process that would be the memory of somebody else.
  std::optional<KeptArrays> kept;
  if (!honest) kept.emplace();
#endif
  Play(choices, lane, honest).run();
}

}  // namespace mooncake_mpi::testing
