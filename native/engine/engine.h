#pragma once

// The engine of one process: its peers, its lanes, and the operations under way. Any thread: each
// call takes the engine's lock, and any thread that waits makes progress for all.

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/biased_mutex.h"
#include "drivers/linux/membarrier.h"
#include "drivers/linux/process_watch.h"
#include "engine/config.h"
#include "engine/device_desk.h"
#include "engine/lanes.h"
#include "engine/patience.h"
#include "engine/peers.h"
#include "engine/posting.h"
#include "engine/progress_thread.h"
#include "engine/waiter.h"
#include "engine/waits.h"
#include "engine/watch_thread.h"
#include "engine/ways.h"
#include "protocol/protocol.h"

namespace mooncake_mpi {

class Engine final : private PacketSink, private Waker {
 public:
  static Result<std::unique_ptr<Engine>> create(
      const EngineConfig& config, const std::vector<Lane>& lanes = all_lanes(),
      std::unique_ptr<linux_driver::ProcessWatch> watch = nullptr);
  ~Engine() override;

  // --- communicators ---
  // A context of `size` processes in which this one is `rank`. Its address() goes to every member;
  // activate() takes all members' addresses, in rank order.
  Result<Context*> create_context(std::int32_t rank, std::int32_t size);
  // What goes to every member before that, and instead of it where they know each other.
  wire::Head head(const Context& context) const noexcept;
  wire::Address address(const Context& context) const;
  Result<bool> activate(Context& context, const std::vector<wire::Address>& members,
                        std::string label = {});
  // The same of addresses as they travel, one behind the other, each with zeros behind it up to so
  // many bytes.
  Result<bool> activate(Context& context, Bytes entries, std::size_t entry_bytes,
                        std::string label);
  // Instead of addresses, for members of an active communicator: `members` has them in rank order,
  // with the numbers that they gave. Makes nothing but what is in its arguments.
  void activate_known(Context& context, std::vector<Context::Member> members, std::string label);
  // Before activation: at most as many members as it was made for.
  void reshape(Context& context, std::int32_t rank, std::int32_t size);
  void close_context(Context& context);
  // The context stays, though its communicator may be freed, until it is let go.
  void hold(Context& context);
  void let_go(Context& context);

  // --- point to point; ranks and tags were checked by the caller ---
  // A standard-mode send of a small message of host memory that is done on return; false: use
  // send().
  bool try_send_now(Context& context, MatchChannel channel, std::int32_t dest, std::int32_t tag,
                    const Buffer& buffer) {
    if (!may_send_now(context, buffer)) return false;
    std::lock_guard lock(mutex_);
    return send_now(context, channel, dest, tag, buffer);
  }
  Result<Operation*> send(Context& context, MatchChannel channel, std::int32_t dest,
                          std::int32_t tag, const Buffer& buffer, SendMode mode,
                          std::unique_ptr<Source> source = nullptr);
  // The same for bytes at several places, at least one; not buffered.
  Result<Operation*> send_pieces(Context& context, MatchChannel channel, std::int32_t dest,
                                 std::int32_t tag, std::unique_ptr<Source> pieces, SendMode mode) {
    const Buffer whole{nullptr, pieces->bytes()};
    return send(context, channel, dest, tag, whole, mode, std::move(pieces));
  }
  Operation* receive(Context& context, MatchChannel channel, std::int32_t source, std::int32_t tag,
                     const Buffer& buffer);
  // The engine allocates the buffer (Operation::owned_buffer) when the message's length is known.
  Operation* receive_any_size(Context& context, MatchChannel channel, std::int32_t source,
                              std::int32_t tag);
  // A message taken by improbe(): into `buffer`, or one that the engine allocates when it is null.
  Operation* receive_matched(Context& context, UnexpectedMessage& message, const Buffer* buffer);
  // Any of these into memory of a device, which may refuse.
  Result<Operation*> receive_device(Context& context, MatchChannel channel, std::int32_t source,
                                    std::int32_t tag, const Buffer& buffer,
                                    UnexpectedMessage* message = nullptr);
  // Into what `sink` takes, of a buffer whose device does not make one.
  Operation* receive_into(Context& context, MatchChannel channel, std::int32_t source,
                          std::int32_t tag, const Buffer& buffer, std::unique_ptr<Sink> sink,
                          UnexpectedMessage* message = nullptr);
  bool redirect(Operation& receive, MemoryDevice& device, std::unique_ptr<Sink> sink);
  // Several, in this order, as one: no other thread finds a part of them posted. What could not be
  // started says so in its posting; those behind it are started all the same.
  void post(std::span<Posting> postings);
  // The same, and leave() for all of them.
  void post_and_leave(std::span<Posting> postings);

  // One of host memory, by a thread that comes now and then and is no thread of the program's: as
  // urgent as with entrust(). `then` is called with the lock held.
  template <class Then>
  void post_as_visitor(Posting& posting, Then&& then) {
    mutex_.lock_as_visitor();
    start(posting);
    if (posting.operation != nullptr) protocol_.mark_background(*posting.operation);
    then();
    mutex_.unlock();
    look_after(true);
  }

  struct Envelope {
    std::int32_t source = 0;
    std::int32_t tag = 0;
    std::uint64_t bytes = 0;
    Error error = Error::kNone;
  };
  // One poll; true and the envelope if a message waits, or with its error if none can come:
  // kCommunicator where the communicator was freed. With `message` it is taken from the queue.
  bool iprobe(Context& context, std::int32_t source, std::int32_t tag, Envelope& envelope,
              UnexpectedMessage** message = nullptr,
              MatchChannel channel = MatchChannel::kMessages);
  // The caller goes on without waiting for the operation (nullptr: for none): what is unfinished
  // stays in the progress thread's care, a large transfer from now on.
  void leave(Operation* operation) {
    const bool large = operation != nullptr && is_large(*operation);
    if (large) mark(*operation);
    look_after(large);
  }
  // The same, and it is urgent whatever its size: something that is no thread waits for it.
  void entrust(Operation& operation);
  bool cancel(Operation& operation, MatchChannel channel);
  // A blocking call is left before it is done; see protocol/give_up.cc.
  bool give_up(Operation& receive);
  bool leave_send(Operation& send);
  // A message of kMessages that its receiver took and has no use for yet: a copy, before all
  // others.
  void give_back(Context& context, std::int32_t source, std::int32_t tag, Bytes bytes);
  void release(Operation& operation);
  // Of one that is done because no path to its peer is left, or there is none: what the lane said;
  // empty: nothing.
  std::string why_lost(const Operation& operation);
  // Of a source that no lane reaches.
  std::string why_lost(Context& context, std::int32_t source);
  // `watch` is told when the operation is done, by the thread that completes it; false: it is done.
  bool watch_completion(Operation& operation, CompletionWatch& watch);

  // --- failure ---
  struct Failures {
    std::vector<std::int32_t> ranks;  // in the order in which their end was noticed
    std::size_t acknowledged = 0;     // of them
  };
  Failures failures(Context& context);
  std::size_t acknowledge(Context& context, std::size_t count);
  void revoke(Context& context);
  bool revoked(Context& context);

  // --- progress ---
  // `more_to_come`: it is likely to be called again at once, with more that is posted.
  unsigned progress(bool more_to_come = false) {
    unsigned worked = 0;
    {
      std::lock_guard lock(mutex_);
      polls_.store(polls_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      worked = poll();
    }
    device_desk_.run(more_to_come);
    return worked;
  }
  // What the program's devices have to do for messages is done from now on; once set it stays.
  void set_device_work(DeviceWork& work) noexcept { device_desk_.set(work); }
  // Polls for a short while without ever sleeping; for callers that hold a lock of their own.
  template <class Done>
  bool spin(Done&& done, unsigned turns) {
    constexpr unsigned kAtOnce = 2;  // what is there then was not waited for
    return poll_until(
               done, [this] { return progress(); }, kAtOnce) ||
           poll_attended(done, turns - kAtOnce);
  }
  template <class Done>
  WaitResult wait(Done&& done, std::uint64_t timeout_ns, bool again = false) {
    const Waiting waiting(*this);
    return wait_for(
        *doorbell_, barrier_, patience_.policy(), timeout_ns, again, done,
        [this] { return progress(); }, [this] { return device_desk_.nap_ns(); },
        [this](bool sleeping) {
          std::lock_guard lock(mutex_);
          before_sleep(sleeping);
        });
  }
  // Peers are told that a thread waits, or no longer; true: that it is awake. With more processes
  // than cores none is for long, and where the call returns before the peer asks for a stream, only
  // a progress thread is there for it. Of several threads the last one counts.
  bool attend(bool attends) noexcept {
    const bool awake = attends && config_.progress_thread && !patience_.crowded();
    doorbell_->attended.store(awake ? 1 : 0, std::memory_order_relaxed);
    return awake;
  }
  // Sends what is buffered or was left to the engine; gives up after `timeout_ns`.
  bool flush(std::uint64_t timeout_ns);

  // --- the end, before MPI is finalised (finalize.cc) ---
  // First: of what arrives only posted receives get anything, and senders of the rest are told.
  void refuse_messages();
  // Then: waits until all that was sent has been received, or cannot be any more.
  WaitResult deliver(std::uint64_t timeout_ns, bool again);
  // Now and then by calls that wait: sends to processes that are at their end fail in the end.
  void fail_undeliverable();
  // What is not delivered yet is in explain(). Last: only answers to others are given.
  void end();

  // Ends the progress thread; it starts again when it is needed. The others end for good.
  void stop_threads();
  // Around a fork, in the thread that makes it. The child's engine does nothing and reaches nobody:
  // its operations have failed.
  void before_fork();
  void after_fork_in_parent();
  void after_fork_in_child() noexcept;
  // False in a child that a fork made: it has the memory of this process and none of its threads.
  bool in_own_process() const noexcept;

  // --- hangs (hang.cc) ---
  // A call that has waited for a while says what for, until end_wait().
  std::uint64_t begin_wait(const WaitRecord& record);
  void end_wait(std::uint64_t id);
  // The messages that such a call waits for.
  std::vector<Awaited> awaited(std::uint64_t id);
  void found_in_library(std::uint64_t id, const LibraryMessage& message);
  // What this process waits for, and the heads of its queues.
  // `elsewhere`: where in the MPI library the process is while no call here waits, if it is.
  std::string explain(std::string_view elsewhere = {});
  // The watch thread writes explain() to standard error, and the process of rank 0 who waits for
  // whom in a circle. Async-signal-safe; `by`: the process that asks, or 0.
  void ask(pid_t by) noexcept;
  bool answers() { return watch_thread_.running(); }

  // --- for info and doctor ---
  template <class Visit>
  void inspect(Visit&& visit) {
    std::lock_guard lock(mutex_);
    visit(protocol_);
  }
  std::string lane_of(Context& context, std::int32_t rank);
  Ways& ways() noexcept { return ways_; }
  const EngineConfig& config() const noexcept { return config_; }
  const std::vector<MissingLane>& missing_lanes() const noexcept { return missing_lanes_; }
  // What has arrived waits for memory, for that long.
  std::uint64_t starved_ns() const noexcept {
    const std::uint64_t since = starved_since_ns_.load(std::memory_order_relaxed);
    return since == 0 ? 0 : now_ns() - since;
  }
  bool oversubscribed() const noexcept { return patience_.crowded(); }

 private:
  friend class ProgressThread;

  // Shorter transfers are over before a thread could be woken for them.
  static constexpr std::uint64_t kBackgroundBytes = 256 * 1024;

  // A thread that waits does the progress thread's work; when it leaves, that one takes over.
  class Waiting {
   public:
    explicit Waiting(Engine& engine) noexcept : engine_(engine) {
      engine_.waiters_.fetch_add(1, std::memory_order_seq_cst);
      engine_.attend(true);
    }
    ~Waiting() {
      engine_.attend(false);
      engine_.waiters_.fetch_sub(1, std::memory_order_seq_cst);
      engine_.leave(nullptr);
    }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    Engine& engine_;
  };

  Engine(const EngineConfig& config, const ProcessId& process,
         std::unique_ptr<linux_driver::ProcessWatch> watch);

  void on_packet(Peer& from, const wire::Header& header, Bytes payload) override {
    protocol_.on_packet(from, header, payload);
  }
  void on_path(std::uint64_t id, TransferPath path) noexcept override {
    protocol_.on_path(id, path);
  }
  void on_moved(Peer& peer, std::uint64_t id, Error error) override {
    protocol_.on_moved(peer, id, error);
  }
  // lane_events.cc
  Peer* on_connect(const ProcessId& process) override;
  std::optional<wire::Secret> secret_of(const ProcessId& process) override;
  std::optional<wire::Secret> secret_known_of(const ProcessId& process) const override;
  bool refuses(const ProcessId& process) override;
  std::uint64_t bytes_sent(const Peer& peer) const noexcept override;
  void send_note(Peer& peer, wire::LaneId lane, std::uint64_t id, Bytes note) override;
  void on_detour(Peer& peer, std::uint64_t bytes, std::string_view reason) noexcept override;
  void on_failure(Peer& peer, const std::string& reason) override;
  // Waker, for the lanes' threads.
  void wake() override;
  void poll_now() override;
  template <class Done>
  [[gnu::noinline]] bool poll_attended(Done& done, unsigned turns) {
    attend(true);
    const bool is_done = poll_until(done, [this] { return progress(); }, turns);
    attend(false);
    return is_done;
  }
  void before_sleep(bool sleeping);
  Result<bool> open_lanes(const std::vector<Lane>& lanes);
  Peer& meet(std::uint32_t known);
  Result<bool> connect(Peer& peer);
  bool is_isolated(const Context& context) const;
  std::string why_isolated(Context& context);
  void watch(Peer& peer);
  void on_process_end(std::uint64_t token);
  Result<std::unique_ptr<std::byte[]>> copy_of(const Buffer& buffer);
  void prepare(Posting& posting);
  void prepare(std::span<Posting> postings);
  void attend_to(std::span<const Posting> postings);
  void go_on_with_devices();
  void fail(Peer& peer, Error error);
  void spread_revocation(Context& context);
  template <class AddressOf>
  Result<bool> activate(Context& context, std::size_t members, std::string label,
                        AddressOf&& address_of);
  void report();
  unsigned poll();
  static bool is_large(const Operation& operation) noexcept {
    return operation.buffer.bytes >= kBackgroundBytes;
  }
  // The progress thread does, where something is unfinished; at once where it is a large transfer.
  [[gnu::always_inline]] void look_after(bool large) {
    const bool needed = protocol_.unfinished() || protocol_.owes_answers();
    if (!needed || !config_.progress_thread) return;
    if (large) {
      progress_thread_.hurry();
    } else {
      progress_thread_.awake();
    }
  }
  // Looked at without the lock; what has changed by then the protocol finds.
  bool may_send_now(const Context& context, const Buffer& buffer) const noexcept {
    const ProtocolLimits& limits = config_.limits;
    if (context.revoked) return false;
    return buffer.bytes <= limits.eager_bytes ||
           (buffer.bytes <= std::max(limits.unmapped_eager_bytes, limits.far_eager_bytes) &&
            (config_.pool == nullptr || !config_.pool->may_contain(buffer.address)));
  }
  bool send_now(Context& context, MatchChannel channel, std::int32_t dest, std::int32_t tag,
                const Buffer& buffer) {
    const Context::Member& member = context.members[static_cast<std::size_t>(dest)];
    if (member.peer->channel == nullptr) [[unlikely]]
      return false;
    return protocol_.try_send_now(context, member, channel, tag, buffer);
  }

  // --- posting.cc, the lock held ---
  Result<Operation*> start_send(Context& context, MatchChannel channel, std::int32_t dest,
                                std::int32_t tag, const Buffer& buffer, SendMode mode,
                                std::unique_ptr<Source> source = nullptr);
  void start(Posting& posting);
  bool all_delivered();
  void mark(Operation& operation);
  void call_awaited(std::uint64_t id);
  std::string unconnected();
  void choose_policy();
  void choose_patience();
  void choose_polled() noexcept;

  EngineConfig config_;
  ProcessId process_;
  wire::Address own_address_;
  std::uint32_t address_bytes_ = 0;  // of it, encoded
  mutable BiasedMutex mutex_;        // guards everything below
  linux_driver::GlobalBarrier barrier_;
  Protocol protocol_;
  std::vector<std::unique_ptr<Transport>> lanes_;  // fastest first
  std::vector<Transport*> polled_;                 // of them: those that are not dormant
  std::vector<MissingLane> missing_lanes_;
  Peers peers_{own_address_, lanes_, missing_lanes_};
  Ways ways_{mutex_, protocol_, peers_, lanes_, missing_lanes_};
  Patience patience_{peers_, lanes_, config_.spin_ns};
  std::vector<Peer*> watched_;  // by token
  Waits waits_{protocol_};
  std::atomic<pid_t> asked_by_{0};
  std::uint64_t last_failure_ns_ = 0;
  Doorbell own_doorbell_;  // when there is no segment to hold one
  Doorbell* doorbell_ = &own_doorbell_;
  std::atomic<bool> answering_{false};  // after end()
  std::atomic<std::uint64_t> starved_since_ns_{0};
  DeviceDesk device_desk_;
  std::atomic<std::uint32_t> polls_{0};    // by the program's threads
  std::atomic<std::uint32_t> waiters_{0};  // threads that wait, and so make progress
  ProgressThread progress_thread_{*this};
  WatchThread watch_thread_;
};

}  // namespace mooncake_mpi
