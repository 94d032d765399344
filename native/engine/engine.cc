// The engine of one process: its lanes opened, its communicators, polls and the ends of operations.
// Any thread; each call takes the engine's lock, and the private functions are called with it held.
#include "engine/engine.h"

#include <algorithm>
#include <utility>

#include "engine/failure.h"
#include "engine/process_identity.h"

namespace mooncake_mpi {
Engine::Engine(const EngineConfig& config, const ProcessId& process,
               std::unique_ptr<linux_driver::ProcessWatch> watch)
    : config_(config),
      process_(process),
      protocol_(config.limits),
      watch_thread_(
          std::move(watch), [this](std::uint64_t token) { on_process_end(token); },
          [this] { report(); }) {
  protocol_.set_sink(this);
  protocol_.set_parking(config.progress_thread);
  protocol_.set_on_meeting([this](std::uint32_t known) -> Peer& { return meet(known); });
  protocol_.set_on_revocation([this](Context& context) { spread_revocation(context); });
}

Result<std::unique_ptr<Engine>> Engine::create(const EngineConfig& config,
                                               const std::vector<Lane>& lanes,
                                               std::unique_ptr<linux_driver::ProcessWatch> watch) {
  if (watch == nullptr) watch = std::make_unique<linux_driver::SystemProcessWatch>();
  const wire::Address address = identify_process();
  std::unique_ptr<Engine> engine(new Engine(config, address.uid, std::move(watch)));
  engine->own_address_ = address;
  Result<bool> opened = engine->open_lanes(lanes);
  if (!opened) return opened.failure();
  engine->doorbell_->ringers_fence.store(engine->barrier_.available() ? 0 : 1);
  engine->protocol_.set_doorbell(engine->doorbell_);
  HangBoard& board = engine->waits_.board();
  board.pid = address.pid;
  board.ask_descriptor = engine->watch_thread_.ask_descriptor();
  board.ask_inode = engine->watch_thread_.ask_inode();
  engine->choose_policy();
  for (const auto& lane : engine->lanes_)
    lane->start(*engine);
  return engine;
}

Engine::~Engine() {
  stop_threads();
}

void Engine::stop_threads() {
  progress_thread_.stop();
  watch_thread_.stop();
  for (const auto& lane : lanes_)
    lane->stop();
}

Result<bool> Engine::open_lanes(const std::vector<Lane>& lanes) {
  const CopyConfig copy{.limits = config_.limits.copy,
                        .pool = config_.settings.flag("mapping") ? config_.pool : nullptr,
                        .writable = config_.settings.flag("cma")};
  const LaneContext context{own_address_, config_.settings, copy, protocol_.mover_counters()};
  for (const Lane& lane : lanes) {
    if (!lane.always && !config_.lanes.empty() &&
        std::ranges::find(config_.lanes, lane.name) == config_.lanes.end()) {
      missing_lanes_.push_back({lane.name, "not among the chosen lanes", lane.only_moves});
      continue;
    }
    auto opened = lane.open(context);
    if (!opened && !lane.optional) return opened.failure();
    if (!opened) {
      missing_lanes_.push_back({lane.name, opened.failure().message, lane.only_moves});
      continue;
    }
    lanes_.push_back(std::move(opened).value());
    if (Doorbell* doorbell = lanes_.back()->doorbell()) doorbell_ = doorbell;
    if (HangBoard* board = lanes_.back()->board()) waits_.set_board(board);
    if (auto* mark = lanes_.back()->life_mark()) watch_thread_.set_mark(mark);
  }
  for (const auto& lane : lanes_)
    lane->describe(own_address_);
  polled_.reserve(lanes_.size());
  choose_polled();
  address_bytes_ = static_cast<std::uint32_t>(wire::encode(own_address_).size());
  return true;
}

void Engine::before_sleep(bool sleeping) {
  attend(!sleeping);
  protocol_.want_room(sleeping);
  if (!sleeping) return;
  if (patience_.is_old()) choose_policy();
  for (const auto& lane : lanes_)
    lane->before_sleep();
}

void Engine::choose_policy() {
  choose_polled();
  patience_.choose(own_address_.pid);
}

// None is taken off again, and there is room for all.
void Engine::choose_polled() noexcept {
  for (const auto& lane : lanes_) {
    if (!lane->dormant() && std::ranges::find(polled_, lane.get()) == polled_.end()) {
      polled_.push_back(lane.get());
    }
  }
}

void Engine::choose_patience() {
  choose_polled();
  patience_.choose_yield();
}

Result<Context*> Engine::create_context(std::int32_t rank, std::int32_t size) {
  std::lock_guard lock(mutex_);
  Context* context = protocol_.contexts().create();
  if (context == nullptr) return Failure{Error::kNoMemory, "too many communicators at once"};
  context->rank = rank;
  context->size = size;
  return context;
}

wire::Head Engine::head(const Context& context) const noexcept {
  return {.part = wire::Part::kMember,
          .context = context.number,
          .address_bytes = address_bytes_,
          .uid = process_};
}

wire::Address Engine::address(const Context& context) const {
  wire::Address address = own_address_;
  address.context = context.number;
  return address;
}

Result<bool> Engine::activate(Context& context, const std::vector<wire::Address>& members,
                              std::string label) {
  return activate(context, members.size(), std::move(label),
                  [&](std::size_t rank) { return wire::DecodedAddress{members[rank], nullptr}; });
}

Result<bool> Engine::activate(Context& context, Bytes entries, std::size_t entry_bytes,
                              std::string label) {
  if (entry_bytes == 0 || entries.size() % entry_bytes != 0) {
    return Failure{Error::kCommunicator, "process address: wrong size"};
  }
  return activate(context, entries.size() / entry_bytes, std::move(label), [&](std::size_t rank) {
    return wire::decode_address(entries.subspan(rank * entry_bytes, entry_bytes));
  });
}

// One address after the other, as they take many times what is kept of them.
template <class AddressOf>
Result<bool> Engine::activate(Context& context, std::size_t members, std::string label,
                              AddressOf&& address_of) {
  std::lock_guard lock(mutex_);
  if (members != static_cast<std::size_t>(context.size)) {
    return Failure{Error::kCommunicator, "expected " + std::to_string(context.size) +
                                             " addresses, got " + std::to_string(members)};
  }
  std::vector<Context::Member> table;
  table.reserve(members);
  for (std::size_t rank = 0; rank < members; ++rank) {
    const wire::DecodedAddress decoded = address_of(rank);
    if (!decoded.address) {
      return Failure{Error::kCommunicator,
                     "address of rank " + std::to_string(rank) + ": " + decoded.reason};
    }
    const wire::Address& address = *decoded.address;
    const bool near = address.host == own_address_.host;
    if (near && address.uid != process_ && !watch_thread_.start()) {
      return Failure{Error::kNoMemory, "no thread can be started that watches the other processes"};
    }
    bool added = false;
    const std::uint32_t known = peers_.know(address, added);
    if (added) peers_.expect(address);
    Peer* peer = peers_.met(known);
    if (peer == nullptr && near) {
      peer = &meet(known);
      watch(*peer);
    }
    table.push_back({peer != nullptr ? peer : &peers_.stranger(), address.context, known});
  }
  context.label = std::move(label);
  if (waits_.board().rank < 0 && context.size > 1) waits_.board().rank = context.rank;
  context.members = std::move(table);
  protocol_.adopt_failures(context);
  choose_policy();
  return true;
}

void Engine::activate_known(Context& context, std::vector<Context::Member> members,
                            std::string label) {
  std::lock_guard lock(mutex_);
  context.label = std::move(label);
  for (Context::Member& member : members) {
    if (!member.peer->is_stranger) continue;
    if (Peer* peer = peers_.met(member.known)) member.peer = peer;
  }
  context.members = std::move(members);
  protocol_.adopt_failures(context);
}

void Engine::reshape(Context& context, std::int32_t rank, std::int32_t size) {
  std::lock_guard lock(mutex_);
  context.rank = rank;
  context.size = size;
}

void Engine::close_context(Context& context) {
  std::lock_guard lock(mutex_);
  protocol_.close_context(context);
  doorbell_->wake();  // whoever waits for a message of it looks
}

void Engine::hold(Context& context) {
  std::lock_guard lock(mutex_);
  ++context.holders;
}

void Engine::let_go(Context& context) {
  std::lock_guard lock(mutex_);
  protocol_.let_go(context);
}

// Who waits for a message of a process that no lane reaches hears of it, as who sends to it does.
Peer& Engine::meet(std::uint32_t known) {
  Peer& peer = peers_.meet(known);
  if (!peers_.may_reach(peer)) protocol_.give_up_on(peer);
  return peer;
}

// That of the first other member; there is one.
std::string Engine::why_isolated(Context& context) {
  if (!context.isolated) return {};
  const std::int32_t other = context.rank == 0 ? 1 : 0;
  return "rank " + std::to_string(other) + ": " + protocol_.peer_of(context, other).unreachable;
}

// As far as is known without a connection. One that has failed is told of in another way.
bool Engine::is_isolated(const Context& context) const {
  for (std::int32_t rank = 0; rank < context.size; ++rank) {
    const Context::Member& member = context.members[static_cast<std::size_t>(rank)];
    if (rank == context.rank) continue;
    const Peer* peer = member.peer->is_stranger ? peers_.met(member.known) : member.peer;
    const bool reached = peer != nullptr ? !peer->is_unreachable()
                                         : peers_.may_reach(peers_.book().address(member.known));
    if (reached) return false;
  }
  return context.size > 1;
}

Result<bool> Engine::connect(Peer& peer) {
  Result<bool> connected = peers_.connect(peer);
  if (connected) choose_patience();
  if (peer.is_unreachable()) protocol_.give_up_on(peer);
  return connected;
}

std::string Engine::lane_of(Context& context, std::int32_t rank) {
  std::lock_guard lock(mutex_);
  Peer& peer = protocol_.peer_of(context, rank);
  if (peer.channel == nullptr) {
    Result<bool> connected = connect(peer);
    if (!connected) return connected.failure().message;
  }
  return peer.lane;
}

bool Engine::iprobe(Context& context, std::int32_t source, std::int32_t tag, Envelope& envelope,
                    UnexpectedMessage** message, MatchChannel channel) {
  progress();
  std::lock_guard lock(mutex_);
  Matcher& matcher = context.matcher(channel);
  Unexpected* found = message != nullptr ? matcher.take(source, tag) : matcher.find(source, tag);
  if (found == nullptr) {
    if (source != kAnySource)
      protocol_.peer_of(context, source);  // which finds that none reaches it
    if (context.closing) [[unlikely]] {
      envelope.error = Error::kCommunicator;
    } else if (context.troubled) [[unlikely]] {
      envelope.error = Protocol::trouble(context, channel, source);
    }
    return envelope.error != Error::kNone;
  }
  envelope = {found->source, found->tag, static_cast<UnexpectedMessage*>(found)->header.length(),
              Error::kNone};
  if (message != nullptr) *message = static_cast<UnexpectedMessage*>(found);
  return true;
}

bool Engine::cancel(Operation& operation, MatchChannel channel) {
  std::lock_guard lock(mutex_);
  // What a send to oneself has put into the channel is to be found in the queue.
  if (operation.peer != nullptr && operation.peer->is_self) poll();
  return protocol_.cancel(operation, channel);
}

bool Engine::give_up(Operation& receive) {
  std::lock_guard lock(mutex_);
  return protocol_.give_up(receive);
}

bool Engine::leave_send(Operation& send) {
  std::lock_guard lock(mutex_);
  return protocol_.leave_send(send);
}

void Engine::give_back(Context& context, std::int32_t source, std::int32_t tag, Bytes bytes) {
  std::lock_guard lock(mutex_);
  protocol_.give_back(context, source, tag, bytes);
}

void Engine::release(Operation& operation) {
  std::lock_guard lock(mutex_);
  protocol_.release(operation);
}

std::string Engine::why_lost(const Operation& operation) {
  std::lock_guard lock(mutex_);
  if (operation.peer != nullptr) return operation.peer->unreachable;
  return operation.context != nullptr ? why_isolated(*operation.context) : std::string();
}

std::string Engine::why_lost(Context& context, std::int32_t source) {
  std::lock_guard lock(mutex_);
  return source == kAnySource ? why_isolated(context)
                              : protocol_.peer_of(context, source).unreachable;
}

bool Engine::watch_completion(Operation& operation, CompletionWatch& watch) {
  std::lock_guard lock(mutex_);
  if (operation.stage == Operation::Stage::kDone || operation.given_back) return false;
  operation.add_watch(watch);
  return true;
}

// What there is no memory for stays where it is, in the ring it came through, until there is.
unsigned Engine::poll() {
  unsigned count = 0;
  try {
    // One that was dormant may be added by what arrives; there is room for it.
    for (auto lane = polled_.begin(); lane != polled_.end(); ++lane)
      count += (*lane)->quiet() ? 0 : (*lane)->poll(*this);
    if (peers_.has_unanswerable()) [[unlikely]] {
      for (Peer* peer : peers_.take_unanswerable())
        fail(*peer, Error::kPathLost);
    }
    count += protocol_.advance();
  } catch (const std::bad_alloc&) {
    if (starved_since_ns_.load(std::memory_order_relaxed) == 0) starved_since_ns_.store(now_ns());
    return 0;
  }
  if (starved_since_ns_.load(std::memory_order_relaxed) != 0) [[unlikely]]
    starved_since_ns_.store(0);
  return count;
}

bool Engine::flush(std::uint64_t timeout_ns) {
  auto drained = [this] {
    std::lock_guard lock(mutex_);
    bool sending = !protocol_.outbox_empty();
    protocol_.operations().for_each_live([&](const Operation& operation) {
      sending |=
          operation.kind == Operation::Kind::kSend && operation.stage != Operation::Stage::kDone;
    });
    for (const auto& lane : lanes_)
      sending |= !lane->drained();
    return !sending;
  };
  const std::uint64_t deadline = now_ns() + timeout_ns;
  while (!drained()) {
    const std::uint64_t now = now_ns();
    if (now >= deadline) return false;
    wait(drained, std::min<std::uint64_t>(deadline - now, 50'000'000));
  }
  return true;
}

}  // namespace mooncake_mpi
