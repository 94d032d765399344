#include "engine_play.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "wire/payload.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
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
namespace {

constexpr int kRanks = 3;
constexpr int kTags = 3;
constexpr std::size_t kMostLive = 24;
constexpr std::uint64_t kSizes[] = {0,     1,     100,    1'023,  1'024,  1'025,
                                    4'096, 9'000, 40'000, 70'000, 130'000};
constexpr ProtocolLimits kLimits{.eager_bytes = 1'024,
                                 .far_eager_bytes = 2'048,
                                 .unexpected_bytes = 8'192,
                                 .shared_copy_bytes = 32 * 1024,
                                 .past_caches_bytes = 100'000};

// Memory that a lying peer may name as its own, with nothing around it: what goes past its end is
// refused by the kernel.
class Arena {
 public:
  static constexpr std::size_t kBytes = 1 << 20;
  Arena() {
    void* whole = mmap(nullptr, 3 * kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED) std::abort();
    address_ = static_cast<std::byte*>(whole) + kBytes;
    if (mprotect(address_, kBytes, PROT_READ | PROT_WRITE) != 0) std::abort();
  }
  std::uint64_t address() const { return reinterpret_cast<std::uint64_t>(address_); }

 private:
  std::byte* address_ = nullptr;
};

const Arena& arena() {
  static const auto* made = new Arena;  // of the process, as a peer's memory is
  return *made;
}

struct Live {
  int rank = 0;
  Operation* operation = nullptr;
  bool receive = false;
  int dest = -1;  // of a send
  std::unique_ptr<MessageBytes> message;
  std::unique_ptr<GuardedBuffer> buffer;
};

// Bytes that tell by themselves which message they are: the size stands for the seed.
std::uint32_t seed_of(std::uint64_t bytes) {
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

  void run() {
    while (choices_.any() && !::testing::Test::HasFatalFailure()) {
      act();
      reap();
    }
    honest_ ? end_honestly() : end_with_the_others_dead();
  }

 private:
  void act() {
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

  int living() {
    const int rank = static_cast<int>(choices_.below(kRanks));
    return dead_[rank] ? 0 : rank;
  }
  int tag() { return static_cast<int>(choices_.below(kTags)); }
  int any_or(int limit, int any) {
    const auto value = static_cast<int>(choices_.below(static_cast<std::uint32_t>(limit) + 1));
    return value == limit ? any : value;
  }

  Live& add(int rank, Operation& operation) {
    live_.push_back({});
    live_.back().rank = rank;
    live_.back().operation = &operation;
    return live_.back();
  }

  void send() {
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

  void send_pieces() {
    if (live_.size() >= kMostLive || revoked_) return;
    const int rank = living();
    const std::uint64_t bytes = choices_.of(kSizes);
    if (bytes < 4) return;
    auto message = std::make_unique<MessageBytes>(seed_of(bytes), bytes);
    auto pieces = std::make_unique<Pieces>();
    const std::uint64_t cut = 1 + choices_.word() % (bytes - 2);
    pieces->add(message->buffer().address, cut);
    pieces->add(message->buffer().address + cut, bytes - cut);
    const int dest = static_cast<int>(choices_.below(kRanks));
    Live& sent = add(rank, job_[rank].send_pieces(dest, tag(), std::move(pieces)));
    sent.message = std::move(message);
    sent.dest = dest;
  }

  void send_now() {
    if (revoked_) return;
    const int rank = living();
    const std::uint64_t bytes = choices_.below(1'024);
    MessageBytes message(seed_of(bytes), bytes);
    job_[rank].try_send_now(static_cast<int>(choices_.below(kRanks)), tag(), message.buffer());
  }

  void receive() {
    if (live_.size() >= kMostLive) return;
    const int rank = living();
    auto buffer = std::make_unique<GuardedBuffer>(choices_.of(kSizes));
    Live& posted = add(rank, job_[rank].receive(any_or(kRanks, kAnySource), any_or(kTags, kAnyTag),
                                                buffer->buffer()));
    posted.receive = true;
    posted.buffer = std::move(buffer);
  }

  void receive_any_size() {
    if (live_.size() >= kMostLive) return;
    const int rank = living();
    add(rank, job_[rank].receive_any_size(any_or(kRanks, kAnySource), any_or(kTags, kAnyTag)))
        .receive = true;
  }

  void receive_matched() {
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

  Live* pick(bool receives_only) {
    if (live_.empty()) return nullptr;
    Live& found = live_[choices_.below(static_cast<std::uint32_t>(live_.size()))];
    const bool usable = !dead_[found.rank] && (found.receive || !receives_only);
    return usable && !is_finished(found) ? &found : nullptr;
  }

  static bool is_finished(const Live& live) {
    return live.operation->done.load() == Operation::kFinished;
  }

  void cancel() {
    Live* live = pick(true);
    if (live != nullptr) job_[live->rank].cancel(*live->operation);
  }

  // Its handle is gone: the operation ends by itself, and its memory stays until then.
  void release() {
    Live* live = pick(false);
    if (live == nullptr) return;
    job_[live->rank].release(*live->operation);
    bury(*live);
  }

  // Peers that lie, and those that were lied to, may go on writing what they were once told of. So
  // the memory stays; that this process itself no longer touches it is for the sanitizer to see.
  void retire(Live& live) {
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

  void shut([[maybe_unused]] const Live& live, [[maybe_unused]] bool closed) const {
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

  void bury(Live& live) {
    grave_.push_back(std::move(live));
    live = std::move(live_.back());
    live_.pop_back();
  }

  // A blocking call is left in the middle.
  void leave() {
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

  void rarely() {
    if (choices_.below(6) != 0) return;
    switch (choices_.below(3)) {
      case 0:
        revoked_ = true;
        return job_[living()].revoke();
      case 1:
        return kill(1 + static_cast<int>(choices_.below(kRanks - 1)));
      default:
        job_[living()].acknowledge(choices_.below(kRanks));
    }
  }

  void kill(int rank) {
    if (dead_[rank]) return;
    job_.kill(rank);
    dead_[rank] = true;
    for (std::size_t i = live_.size(); i-- > 0;) {  // nobody looks at its operations any more
      if (live_[i].rank == rank) bury(live_[i]);
    }
  }

  // --- what a peer must not send ---

  std::uint64_t some_id() {
    switch (choices_.below(4)) {
      case 0:
        return choices_.word();
      case 1: {
        if (live_.empty()) return 0;
        const Live& live = live_[choices_.below(static_cast<std::uint32_t>(live_.size()))];
        return live.operation->id();
      }
      default:
        return std::uint64_t{1 + choices_.below(6)} << 32 | choices_.below(8);
    }
  }

  std::uint64_t some_address() {
    constexpr std::uint64_t kNowhere[] = {0, 16, 0x1000, UINT64_MAX - 4'096, UINT64_MAX};
    if (choices_.below(4) == 0) return choices_.of(kNowhere);
    constexpr std::uint64_t kOffsets[] = {0, 1, 64, 4'096, Arena::kBytes / 2, Arena::kBytes - 100};
    return arena().address() + choices_.of(kOffsets);
  }

  std::uint64_t some_length() {
    constexpr std::uint64_t kOdd[] = {0, 1, UINT32_MAX, UINT64_MAX, 1ull << 40, Arena::kBytes};
    return choices_.below(3) == 0 ? choices_.of(kOdd) : choices_.of(kSizes);
  }

  template <class Payload>
  void put(const Payload& payload) {
    const std::size_t at = body_.size();
    body_.resize(at + sizeof payload);
    std::memcpy(body_.data() + at, &payload, sizeof payload);
  }

  void put_noise(std::size_t bytes) { body_.resize(body_.size() + bytes, std::byte{0x5a}); }

  // A packet of rank `from` to rank 0, over the channel that it has.
  void lie() {
    const int from = 1 + static_cast<int>(choices_.below(kRanks - 1));
    if (dead_[from]) return;
    Party& liar = job_[from];
    Context& victim = job_[0].context();
    body_.clear();
    wire::Header header{};
    header.kind = static_cast<wire::Kind>(1 + choices_.below(9));
    header.flags = static_cast<std::uint8_t>(choices_.below(3) == 0 ? choices_.below(16) : 0);
    header.context =
        choices_.below(8) == 0
            ? static_cast<std::uint32_t>(choices_.word())
            : ContextTable::with_channel(
                  victim.number, static_cast<MatchChannel>(
                                     choices_.below(8) == 0 ? choices_.below(kMatchChannels) : 0));
    header.source = choices_.below(8) == 0 ? static_cast<int>(choices_.below(9)) : from;
    std::uint64_t length = 0;
    const auto data_bytes = static_cast<std::size_t>(choices_.below(2'000));
    switch (header.kind) {
      case wire::Kind::kEager:
        put_noise(data_bytes);
        length = choices_.below(3) == 0 ? some_length() : body_.size();
        break;
      case wire::Kind::kEagerSync:
        put(wire::EagerSync{some_id()});
        put_noise(data_bytes);
        length = data_bytes;
        break;
      case wire::Kind::kRts:
        put(wire::Rts{some_id(), some_address(),
                      choices_.below(3) == 0 ? choices_.word() : choices_.below(5)});
        put_noise(choices_.below(3) == 0 ? choices_.below(wire::kMaxKeyBytes + 1) : 0);
        length = some_length();
        break;
      case wire::Kind::kCts:
        put(wire::Cts{some_id(), some_id(), some_address(),
                      choices_.below(3) == 0 ? choices_.word() : choices_.below(5), some_length(),
                      choices_.below(5), choices_.of(kChunks), choices_.below(5)});
        break;
      case wire::Kind::kData:
        put(wire::Data{some_id(), some_length()});
        put_noise(data_bytes);
        break;
      case wire::Kind::kFin:
        put(wire::Fin{some_id(), choices_.below(4), 0});
        break;
      case wire::Kind::kAck:
        put(wire::Ack{some_id()});
        break;
      case wire::Kind::kChunkFailed:
        put(wire::ChunkFailed{some_id(), choices_.below(20), 0});
        break;
      case wire::Kind::kCredit:
        put(wire::Credit{some_length()});
        break;
    }
    const bool message = header.kind == wire::Kind::kEager ||
                         header.kind == wire::Kind::kEagerSync || header.kind == wire::Kind::kRts;
    header.tag = message ? tag() : 0;
    header.set_length(message ? length : 0);
    header.payload_bytes = static_cast<std::uint32_t>(body_.size());
    liar.inspect([&](Protocol&) {
      Peer* peer = liar.context().members[0].peer;
      if (peer == nullptr || peer->channel == nullptr) return;
      if (body_.size() > peer->channel->max_payload_bytes()) return;
      // A lane that is ours checks the header of what it takes; so does that of a liar's.
      if (wire::validate(header, sizeof header + body_.size()) != wire::Error::kNone) return;
      peer->channel->try_send(header, {}, body_);
    });
  }

  // --- the ends ---

  void check(const Live& live) {
    const Completion& completion = live.operation->completion;
    if (!honest_ || !live.receive || completion.cancelled) return;
    ASSERT_TRUE(completion.error == mooncake_mpi::Error::kNone ||
                completion.error == mooncake_mpi::Error::kTruncate)
        << error_name(completion.error);
    const auto seed = seed_of(completion.message_bytes > completion.bytes ? completion.message_bytes
                                                                          : completion.bytes);
    if (live.buffer != nullptr) live.buffer->expect(seed, completion.bytes);
  }

  void reap() {
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

  void end_honestly() {
    // A receive for every message that was sent and has none; what was posted in vain is cancelled.
    for (int turn = 0; turn < 400 && !::testing::Test::HasFatalFailure(); ++turn) {
      job_.settle();
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
      if (!sends && !took) break;
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

  void end_with_the_others_dead() {
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
  void drain_own_messages() {
    UnexpectedMessage* message = job_[0].improbe(kAnySource, kAnyTag);
    if (message == nullptr || live_.size() > 2 * kMostLive) return;
    auto buffer = std::make_unique<GuardedBuffer>(200'000);
    Live& posted = add(0, job_[0].receive_matched(*message, buffer->buffer()));
    posted.receive = true;
    posted.buffer = std::move(buffer);
  }

  static constexpr std::uint32_t kChunks[] = {0, 1, 4'096, 16'384, 1u << 30};

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

}  // namespace

void play(Choices& choices, const Lane& lane, bool honest) {
  Play(choices, lane, honest).run();
}

}  // namespace mooncake_mpi::testing
