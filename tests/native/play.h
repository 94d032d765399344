// The state of a play, see engine_play.h. One thread plays every rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "engine_play.h"

namespace mooncake_mpi::testing {

inline constexpr int kRanks = 3;
inline constexpr int kTags = 3;
inline constexpr std::size_t kMostLive = 24;
inline constexpr std::uint64_t kSizes[] = {0,     1,     100,   1'023,  1'024,  1'025,  1'536,
                                           1'537, 4'096, 9'000, 40'000, 70'000, 130'000};
inline constexpr ProtocolLimits kLimits{
    .eager_bytes = 1'024,
    .unmapped_eager_bytes = 1'536,
    .far_eager_bytes = 2'048,
    .unexpected_bytes = 8'192,
    .copy = {.shared_bytes = 32 * 1024, .past_caches_bytes = 100'000}};

struct Live {
  int rank = 0;
  Operation* operation = nullptr;
  bool receive = false;
  int dest = -1;  // of a send
  std::unique_ptr<MessageBytes> message;
  std::unique_ptr<GuardedBuffer> buffer;
};

// Bytes that tell by themselves which message they are: the size stands for the seed.
inline std::uint32_t seed_of(std::uint64_t bytes) {
  return static_cast<std::uint32_t>(bytes);
}

class Play {
 public:
  Play(Choices& choices, const Lane& lane, bool honest)
      : choices_(choices),
        honest_(honest),
        stays_readable_(lane.kind == Lane::Kind::kVerbs && lane.send_shared),
        job_(lane, kRanks, kLimits) {}

  ~Play() {
    for (const Live& live : grave_)
      shut(live, false);
  }
  Play(const Play&) = delete;
  Play& operator=(const Play&) = delete;

  void run();

 private:
  // What happens next.
  void act();
  void rarely();
  void kill(int rank);

  int living() {
    const int rank = static_cast<int>(choices_.below(kRanks));
    return dead_[rank] ? 0 : rank;
  }
  int tag() { return static_cast<int>(choices_.below(kTags)); }
  int any_or(int limit, int any) {
    const auto value = static_cast<int>(choices_.below(static_cast<std::uint32_t>(limit) + 1));
    return value == limit ? any : value;
  }

  // Calls of a program (play_calls.cc).
  Live& add(int rank, Operation& operation);
  Live* pick(bool receives_only);
  void send();
  void send_pieces();
  void send_now();
  void receive();
  void receive_any_size();
  void receive_matched();
  void cancel();
  void release();
  void leave();

  static bool is_finished(const Live& live) {
    return live.operation->done.load() == Operation::kFinished;
  }

  // What becomes of an operation, and of its memory.
  void check(const Live& live);
  void reap();
  void retire(Live& live);
  void shut(const Live& live, bool closed) const;
  void bury(Live& live);

  // What a peer must not send (play_lies.cc).
  std::uint64_t some_id();
  std::uint64_t some_address();
  std::uint64_t some_length();
  wire::Header some_header(int from);
  std::uint64_t some_region();
  void put_offers();
  void put_note();
  std::uint64_t put_body(wire::Kind kind);
  void lie();
  template <class Payload>
  void put(const Payload& payload) {
    const std::size_t at = body_.size();
    body_.resize(at + sizeof payload);
    std::memcpy(body_.data() + at, &payload, sizeof payload);
  }

  void put_noise(std::size_t bytes) { body_.resize(body_.size() + bytes, std::byte{0x5a}); }

  // The ends.
  void end_honestly();
  void end_with_the_others_dead();
  void drain_own_messages();

  Choices& choices_;
  const bool honest_;
  const bool stays_readable_;  // memory that is registered for good: a peer with the key reads it
  std::vector<Live> grave_;    // outlives the job: the operations of its dead and dropped
  Job job_;
  std::vector<Live> live_;
  bool dead_[kRanks] = {};
  bool revoked_ = false;
  std::vector<std::byte> body_;
};

}  // namespace mooncake_mpi::testing
