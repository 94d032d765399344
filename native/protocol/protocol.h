#pragma once

// How a message gets from a send to its receive: eager or rendezvous, and in a rendezvous by whom
// the bytes are moved. Engine lock held for every call, but for the two counts that say so.

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/intrusive_list.h"
#include "protocol/context.h"
#include "protocol/operation_pool.h"
#include "protocol/peer.h"
#include "protocol/unexpected_message.h"
#include "transport/copy/copy_mover.h"
#include "transport/doorbell.h"
#include "wire/payload.h"

namespace mooncake_mpi {

// How a send ends: standard and ready when the buffer may be used again, synchronous when it has
// matched, buffered at once (the engine keeps a copy).
enum class SendMode : std::uint8_t { kStandard = 0, kSynchronous = 1, kReady = 2, kBuffered = 3 };

struct ProtocolLimits {
  std::uint64_t eager_bytes = 8 * 1024;            // longer messages go by rendezvous
  std::uint64_t unmapped_eager_bytes = 64 * 1024;  // of memory that the peer has not mapped
  std::uint64_t far_eager_bytes = 16 * 1024;       // to other hosts, where it takes longer
  std::uint64_t unexpected_bytes = 1024 * 1024;    // of eager messages unmatched, per peer
  CopyLimits copy;
};

struct ProtocolCounters : MoverCounters {
  std::uint64_t eager_sent = 0;
  std::uint64_t rendezvous_sent = 0;
  std::uint64_t unexpected_received = 0;
  std::uint64_t fragments_sent = 0;
  std::uint64_t parked = 0;
  std::uint64_t packets_rejected = 0;
};

// Knows channels, movers and matchers, no lane.
//
//   eager       one packet; unmatched ones are stored by the receiver, as many as credits allow
//   rendezvous  RTS, with offers of the sender's movers -> (match) -> a mover of the receiver reads
//               the sender's memory -> FIN
//               or, where none can: CTS, with offers of the receiver's movers -> a mover of the
//               sender writes the receiver's memory -> FIN
//               or, where none can: DATA ..., as far as a CTS asked, perhaps another CTS, ...
class Protocol {
 public:
  explicit Protocol(const ProtocolLimits& limits) noexcept : limits_(limits) {}
  ~Protocol();
  Protocol(const Protocol&) = delete;
  Protocol& operator=(const Protocol&) = delete;

  // Completions by one thread wake others that sleep on this doorbell.
  void set_doorbell(Doorbell* doorbell) noexcept { doorbell_ = doorbell; }
  // Without a thread that makes progress nobody delivers what is parked while the program is away.
  void set_parking(bool parks) noexcept { parks_ = parks; }

  // Sending; ranks and tags were checked, and the peer has a channel. A small message of host
  // memory right away, without an operation; false: use send().
  bool try_send_now(const Context& context, const Context::Member& member, MatchChannel channel,
                    std::int32_t tag, const Buffer& buffer) {
    return try_send_now(*member.peer, header(context, member, channel, tag, buffer), buffer);
  }
  // `source` has the bytes where they do not lie in the buffer.
  Result<Operation*> send(const Context& context, std::int32_t dest, MatchChannel channel,
                          std::int32_t tag, const Buffer& buffer, SendMode mode,
                          std::unique_ptr<Source> source = nullptr);
  // A message without bytes that nobody waits for.
  void send_notice(const Context& context, const Context::Member& member, MatchChannel channel,
                   std::int32_t tag);

  // Receiving. Where there is no buffer one is made when the message's length is known
  // (Operation::owned_buffer); what goes to a device needs its sink. `message` was taken by a
  // matched probe.
  Operation* receive(Context& context, MatchChannel channel, std::int32_t source, std::int32_t tag,
                     const Buffer* buffer, UnexpectedMessage* message = nullptr,
                     std::unique_ptr<Sink> sink = nullptr);

  // True if the operation was still unmatched; it completes as cancelled. Of announced sends only
  // those to this process itself are looked for.
  bool cancel(Operation& operation, MatchChannel channel);
  void complete(Operation& operation, Error error);
  // A handle outside the engine lets go of the operation.
  void release(Operation& operation);

  // What a receive into a device gets goes into `sink`, of that device, from now on; false: some of
  // it has come, or is on its way in another manner.
  bool redirect(Operation& receive, MemoryDevice& device, std::unique_ptr<Sink> sink);

  // --- give_up.cc ---
  // The caller of a receive that has matched stops waiting. True: the protocol has taken the
  // operation over and does not touch its buffer any more. False: not yet.
  bool give_up(Operation& receive);
  void give_back(Context& context, std::int32_t source, std::int32_t tag, Bytes bytes);
  // The same of a send, which stays its owner's.
  bool leave_send(Operation& send);

  // The progress thread serves these operations at once, not when it next looks.
  void mark_background(Operation& operation) noexcept {
    if (operation.stage == Operation::Stage::kDone || operation.background) return;
    operation.background = true;
    add(background_, 1);
  }
  // These may be read without the lock. Unfinished: somebody, here or in a peer, may depend on this
  // process making progress.
  std::uint32_t background_count() const noexcept {
    return background_.load(std::memory_order_relaxed);
  }
  // Others may wait for what this process answers: their messages of a communicator that was
  // revoked are refused, and nobody here waits for anything of it.
  bool owes_answers() const noexcept { return revoked_.load(std::memory_order_relaxed) != 0; }

  bool unfinished() const noexcept {
    return active_.load(std::memory_order_relaxed) != 0 ||
           queued_peers_.load(std::memory_order_relaxed) != 0;
  }

  void on_packet(Peer& from, const wire::Header& header, Bytes payload);
  // A mover has done, or given up, what it began for that operation.
  void on_moved(Peer& peer, std::uint64_t id, Error error);
  void on_path(std::uint64_t id, TransferPath path) noexcept;
  void send_note(Peer& peer, wire::LaneId lane, std::uint64_t id, Bytes note);
  // Whom movers tell of what they do.
  void set_sink(PacketSink* sink) noexcept { sink_ = sink; }
  // Sends what waited for room, and goes on with streams; 0 when there was nothing to do.
  unsigned advance();
  bool outbox_empty() const noexcept { return peers_with_outbox_.empty(); }
  void want_room(bool wanted);

  // --- failure.cc ---
  // The peer is gone: its operations fail with `error`, and receives from any source in its
  // communicators are interrupted.
  void fail_peer(Peer& peer, Error error);
  // No lane reaches the peer: what is received from it fails with kUnreachable.
  void give_up_on(const Peer& peer);
  // Nor any other member: likewise what is received from any source.
  void isolate(Context& context);
  // In a forked child: every operation fails, and no channel is touched.
  void leave_behind();
  // Members that failed before the context was activated.
  void adopt_failures(Context& context);
  // Of the failed members, in order, the first `count` are known to the program: receives from any
  // source go on without them. Returns how many are acknowledged.
  std::size_t acknowledge(Context& context, std::size_t count);
  // Operations that wait for a match fail with kRevoked; matched ones end as they would.
  void revoke(Context& context);
  // What makes a peer of a process that was never talked to, by its number among those that are
  // known.
  void set_on_meeting(std::function<Peer&(std::uint32_t)> callback) {
    on_meeting_ = std::move(callback);
  }
  // The peer that a member is from now on.
  Peer& peer_of(Context& context, std::int32_t rank) {
    Context::Member& member = context.members[static_cast<std::size_t>(rank)];
    if (member.peer->is_stranger) [[unlikely]]
      member.peer = &on_meeting_(member.known);
    return *member.peer;
  }
  // What tells the other members of a revocation that arrived; it must not poll.
  void set_on_revocation(std::function<void(Context&)> callback) {
    on_revocation_ = std::move(callback);
  }
  // This process is at its end: messages that no posted receive waits for are refused from now on,
  // and those that have arrived.
  void refuse_messages();
  // Sends to processes that are at their end fail when they have been waited for as long as jobs
  // need to end: threads that are left in a call when the program ends say nothing.
  void fail_undeliverable();
  // Why a receive or probe of that source can match nothing new; kNone if it can.
  static Error trouble(const Context& context, MatchChannel channel, std::int32_t source) noexcept;
  // The communicator was freed: its unmatched messages are dropped.
  void close_context(Context& context) noexcept;
  void let_go(Context& context);

  OperationPool& operations() noexcept { return operations_; }
  ContextTable& contexts() noexcept { return contexts_; }
  UnexpectedPool& unexpected() noexcept { return unexpected_; }
  const ProtocolCounters& counters() const noexcept { return counters_; }
  MoverCounters& mover_counters() noexcept { return counters_; }
  const ProtocolLimits& limits() const noexcept { return limits_; }

 private:
  static wire::Header header(const Context& context, const Context::Member& member,
                             MatchChannel channel, std::int32_t tag,
                             const Buffer& buffer) noexcept {
    return wire::message_header(wire::Kind::kEager,
                                ContextTable::with_channel(member.number, channel), context.rank,
                                tag, 0, buffer.bytes);
  }
  // Written under the lock only, so that no atomic read-modify-write is needed.
  static void add(std::atomic<std::uint32_t>& count, std::int32_t change) noexcept {
    count.store(count.load(std::memory_order_relaxed) + static_cast<std::uint32_t>(change),
                std::memory_order_relaxed);
  }

  // outbox.cc
  bool send_or_queue(Peer& peer, const wire::Header& header, Bytes payload);
  template <class Payload>
  void send_control(Peer& peer, const Payload& payload, std::uint8_t flags = 0, Bytes more = {});
  unsigned flush(Peer& peer);
  unsigned advance_outboxes();
  OutboxEntry& queue(Peer& peer);
  void drop_from_outbox(Operation& send);

  // send.cc
  bool try_send_now(Peer& peer, const wire::Header& header, const Buffer& buffer);
  void start_send(Operation& send, bool synchronous);
  bool announce(Operation& send);
  bool fits_packet(const Peer& peer, const Buffer& buffer) const noexcept;
  bool has_choice(const Peer& peer, const Buffer& buffer) const noexcept;
  bool is_announced_on_advice(const Peer& peer, const Buffer& buffer) const noexcept;
  bool credit_left(Peer& peer, std::uint64_t bytes) noexcept;
  void on_ack(Peer& from, const wire::Header& header, Bytes payload);
  void on_fin(Peer& from, const wire::Header& header, Bytes payload);
  Operation* find_send(Peer& from, std::uint64_t id);
  [[gnu::cold]] bool take_back_from_self(const Operation& send);
  [[gnu::cold]] CompletionWatch* end_unusual(Operation& operation);
  [[gnu::cold]] void tell_of_unusual(Operation& operation, CompletionWatch* watch);
  bool finish_written(Peer& from, const wire::Fin& fin);
  void conceal(Operation& operation) noexcept;

  // receive.cc
  void start_receive(Operation& receive, MatchChannel channel);
  void start_matched_receive(Operation& receive, UnexpectedMessage& message);
  void on_message(Peer& from, const wire::Header& header, Bytes payload);
  [[gnu::cold]] void meet(Operation& receive, Context& context, std::int32_t source);
  [[gnu::cold]] static bool recognize(Context& context, std::int32_t rank, Peer& from) noexcept;
  Unexpected* post(Operation& receive, MatchChannel channel);
  void accept_message(Operation& receive, UnexpectedMessage& message);
  void accept_eager(Operation& receive, Peer& from, const wire::Header& header, Bytes bytes,
                    std::uint64_t send_id);
  [[gnu::noinline]] static void consider(Peer& from, EagerChoice::Way way,
                                         std::uint64_t bytes) noexcept;
  void prepare_receive(Operation& receive, Peer& from, const wire::Header& header);
  void drop_unexpected(Matcher& matcher);
  void destroy_closed_contexts();
  void reject_message(Peer& from, std::uint64_t send_id, const wire::Header& header);

  // failure.cc
  [[gnu::cold]] bool is_refused(Context& context, MatchChannel channel, const wire::Header& header);
  [[gnu::cold]] void hear_of_revocation(Context& context);
  [[gnu::cold]] void hear_of_revocation(const Operation& send);
  [[gnu::cold]] void start_troubled_receive(Operation& receive);
  void abort(Operation& operation, Error error);
  void interrupt(Operation& receive);
  Error refusal(const Operation& send) const noexcept;

  // give_up.cc
  struct Moved {
    Peer* peer;
    std::uint64_t send_id;
    std::vector<std::byte> offers;  // of the new place
  };
  bool divert(Operation& receive);
  void put_back(Operation& kept);
  [[gnu::cold]] void accept_kept(Operation& receive, Operation& kept);
  [[gnu::cold]] void hand_over(Operation& kept, Operation& receive);
  [[gnu::cold]] void finish_kept(Operation& kept);
  [[gnu::cold]] void on_moved_elsewhere(Peer& from, const wire::Rts& rts, Bytes offers);
  bool is_unexpected(const Peer& from, std::uint64_t send_id) const;
  void forget_move(const Peer& peer, std::uint64_t send_id);
  [[gnu::cold]] bool follow_move(Peer& peer, std::uint64_t send_id, std::vector<std::byte>& offers);

  // rendezvous.cc
  bool announce_rendezvous(Operation& send);
  bool offer(Operation& operation, Access access, wire::Offers& offers);
  void start_transfer(Operation& receive, Peer& from, std::uint64_t send_id, Bytes offers);
  void ask_of_nothing(Operation& receive);
  void ask(Operation& receive);
  void on_cts(Peer& from, const wire::Header& header, Bytes payload);
  void on_note(Peer& from, const wire::Header& header, Bytes payload);
  void finish_moved(Operation& receive, Error error);
  [[gnu::noinline]] static void count(const Operation& operation, std::uint64_t bytes) noexcept;
  [[gnu::cold]] void tell_of_detour(Peer& from, const Operation& send,
                                    const wire::Cts& cts) noexcept;
  void stream_from_start(Operation& send);

  // stream.cc
  unsigned advance_stream(Operation& send);
  unsigned tell_of_nothing(Operation& send);
  unsigned fail_stream(Operation& send);
  void consider_parking(Operation& send) noexcept;
  static void forget_parking(Operation& send) noexcept;
  unsigned advance_parking();
  unsigned park(Operation& send);
  void on_data(Peer& from, const wire::Header& header, Bytes payload);
  // At most `most` bytes of the message from `offset` on, as far as they lie without a gap; empty:
  // not yet.
  static Bytes bytes_at(const Operation& send, std::uint64_t offset, std::uint64_t most) noexcept;

  // landing.cc: bytes of a message come into the receive's buffer by land(), or by a mover.
  std::uint64_t land(Operation& receive, std::uint64_t offset, Bytes bytes) noexcept;
  void land_whole(Operation& receive, Bytes bytes);
  [[gnu::noinline]] void finish_receive(Operation& receive);
  unsigned advance_landing(Operation& receive);

  ProtocolLimits limits_;
  ProtocolCounters counters_;
  Doorbell* doorbell_ = nullptr;
  std::function<void(Context&)> on_revocation_;
  std::function<Peer&(std::uint32_t)> on_meeting_;
  PacketSink* sink_ = nullptr;
  OperationPool operations_;
  ContextTable contexts_;
  UnexpectedPool unexpected_;
  bool parks_ = true;
  std::uint64_t parked_bytes_ = 0;
  IntrusiveList<Operation, WorkTag> parkable_;
  // Streams, and receives whose bytes are landing.
  IntrusiveList<Operation, WorkTag> work_;
  OutboxMemory outbox_memory_;
  IntrusiveList<Peer, OutboxTag> peers_with_outbox_;
  bool refusing_ = false;
  std::vector<Moved> moved_;  // announced messages that have not matched
  std::atomic<std::uint32_t> undeliverable_{0};
  std::atomic<std::uint32_t> background_{0};
  std::atomic<std::uint32_t> revoked_{0};       // contexts
  std::atomic<std::uint32_t> active_{0};        // operations that are not done
  std::atomic<std::uint32_t> queued_peers_{0};  // the size of peers_with_outbox_
};

// On the channel of agreements: the communicator is revoked. Agreements use lower tags.
inline constexpr std::int32_t kRevocationTag = 1 << 30;

// What an unmatched eager message costs its receiver besides its bytes.
inline constexpr std::uint64_t kMessageOverhead = 128;

}  // namespace mooncake_mpi
