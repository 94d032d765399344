// What the tests of the verbs lane share: jobs of one or two rails, and whole messages in them.
#pragma once

#include <gtest/gtest.h>

#include "base/clock.h"
#include "party.h"

namespace mooncake_mpi::testing {

inline constexpr Lane kTwoRails{.name = "VerbsTwoRails", .kind = Lane::Kind::kVerbs, .rails = 2};
inline constexpr Lane kOneRail{.name = "Verbs", .kind = Lane::Kind::kVerbs};

// The lane's clock is the machine's: paths are tried again after a tenth of a second.
template <class Done>
bool run(Job& job, Done&& done, double seconds = 30) {
  const auto end = now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
  while (now_ns() < end) {
    if (done()) return true;
    for (int rank = 0; rank < job.size(); ++rank)
      job[rank].progress();
  }
  return done();
}

// A message from rank 0 to rank 1, tag and contents by its seed, has to arrive.
inline void exchange(Job& job, std::uint32_t seed, std::size_t bytes) {
  MessageBytes message(seed, bytes);
  GuardedBuffer target(bytes);
  Operation& receive = job[1].receive(0, static_cast<int>(seed), target.buffer());
  Operation& send = job[0].send(1, static_cast<int>(seed), message.buffer());
  ASSERT_TRUE(run(job, [&] { return send.done && receive.done; })) << "message " << seed;
  EXPECT_EQ(send.completion.error, Error::kNone);
  EXPECT_EQ(receive.completion.error, Error::kNone);
  target.expect(seed, bytes);
  job[0].release(send);
  job[1].release(receive);
}

}  // namespace mooncake_mpi::testing
