// How two processes connect their queue pairs, and connect them again when a path has failed: each
// tells the other in a datagram which queue pairs it has, which of the other's it is connected to,
// and repeats that until both know. Engine lock held for every call.
#include <algorithm>
#include <cstring>
#include <random>

#include "base/clock.h"
#include "transport/verbs/channel.h"
#include "transport/verbs/verbs_transport.h"

namespace mooncake_mpi::verbs {

using State = Path::State;

namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kFirstRepeatNs = 20 * kMillisecond;
constexpr std::uint64_t kLastRepeatNs = 1000 * kMillisecond;
constexpr std::uint64_t kRetryNs = 100 * kMillisecond;
constexpr std::uint64_t kRefusedRetryNs = 500 * kMillisecond;
constexpr std::uint64_t kProofNs = 5000 * kMillisecond;
constexpr std::uint32_t kReadDepth = 8;  // both sides must agree

std::uint32_t random_psn() {
  static thread_local std::random_device device;
  return device() & 0xffffff;
}

}  // namespace

void VerbsChannel::note(Path& path, std::string_view trouble, std::string_view more) noexcept {
  try {
    path.trouble.assign(trouble).append(more);
    last_error_ = path.rail->name() + ": " + path.trouble;
  } catch (const std::bad_alloc&) {  // then there are no words for it
  }
}

std::vector<std::string> VerbsChannel::troubles() const {
  std::vector<std::string> found;
  for (const Path& path : paths_) {
    if (path.state == State::kReady) continue;
    const bool alone = path.trouble.empty();
    found.push_back(path.rail->name() + ": " + (alone ? "no answer" : path.trouble));
  }
  return found;
}

// A queue pair for this epoch; false where none can be made now, which is tried again later.
bool VerbsChannel::begin_epoch(Path& path, std::uint32_t epoch) noexcept {
  path.epoch = epoch;
  path.state = State::kDown;
  path.retry_ns = now_ns() + kRefusedRetryNs;
  try {
    return try_begin_epoch(path);
  } catch (const std::bad_alloc&) {
    note(path, "no memory");
    short_of_memory_ = true;
    return false;
  }
}

bool VerbsChannel::try_begin_epoch(Path& path) {
  if (!path.rail->active()) {
    note(path, "port down");
    return false;
  }
  while (path.slabs < receive_slabs()) {
    Result<bool> reserved = path.rail->reserve_receives();
    if (!reserved) {
      note(path, reserved.failure().message);
      return false;
    }
    ++path.slabs;
  }
  if (slot_regions_[path.rail_index] == nullptr) {
    auto region = path.rail->registrations().register_memory(slots_.data(), slots_.size(), 0);
    if (!region) {
      note(path, region.failure().message);
      return false;
    }
    slot_regions_[path.rail_index] = std::move(region).value();
  }
  auto pair = path.rail->create_queue_pair();
  if (!pair) {
    note(path, pair.failure().message);
    return false;
  }
  auto connection = std::make_unique<Connection>();
  connection->channel = this;
  connection->path = &path;
  connection->rail = path.rail;
  connection->pair = std::move(pair).value();
  connection->psn = random_psn();
  transport_.reserve_retired();
  path.connection = &transport_.connections_.add(std::move(connection));
  path.state = State::kOffered;
  return true;
}

bool VerbsChannel::connect_path(Path& path, const wire::PathOffer& offer) {
  verbs_driver::ConnectOptions options;
  options.route = path.rail->route_to(path.remote);
  options.remote_queue_pair = offer.queue_pair;
  options.remote_psn = offer.psn;
  options.local_psn = path.connection->psn;
  options.mtu_bytes =
      std::min<std::uint32_t>(path.rail->address().mtu_bytes, path.remote.mtu_bytes);
  options.timeout = kTimeout;
  options.retries = kRetries;
  options.read_depth =
      static_cast<std::uint8_t>(std::min(path.rail->device().limits().read_depth, kReadDepth));
  Result<bool> connected = path.connection->pair->connect(options);
  if (connected) {
    path.state = State::kConnected;
    return true;
  }
  note(path, connected.failure().message);
  break_path(path, now_ns());
  return false;
}

void VerbsChannel::break_path(Path& path, std::uint64_t now) noexcept {
  Connection* connection = path.connection;
  path.connection = nullptr;
  path.state = State::kDown;
  path.retry_ns = now + kRetryNs;
  if (connection == nullptr) return;
  connection->failed = true;
  connection->path = nullptr;
  connection->pair->fail();
  transport_.retire(*connection, now);
  if (primary_ == connection) choose_primary();
  const bool any = std::any_of(paths_.begin(), paths_.end(),
                               [](const Path& other) { return other.state == State::kReady; });
  if (!any && deadline_ns_ == 0) deadline_ns_ = now + transport_.config_.timeout_ns;
  transport_.tick_soon();
}

void VerbsChannel::choose_primary() noexcept {
  Path* nearest = nullptr;
  for (Path& path : paths_) {
    if (path.state != State::kReady) continue;
    if (nearest == nullptr || path.rail->distance() < nearest->rail->distance()) nearest = &path;
  }
  Connection* chosen = nearest != nullptr ? nearest->connection : nullptr;
  if (chosen == primary_) return;
  primary_ = chosen;
  if (primary_ == nullptr) return;
  posted_sequence_ = sent_complete_ = peer_consumed_;
  tell_credit_ = true;
  replay();
}

void VerbsChannel::make_ready(Path& path) {
  path.state = State::kReady;
  path.trouble.clear();
  deadline_ns_ = 0;
  if (primary_ == nullptr) choose_primary();
  transport_.attend_later(*this);
}

void VerbsChannel::on_hello(const wire::Hello& hello) {
  if (failed_ || hello.paths != paths_.size()) return;
  // One that was held back or recorded says nothing that a newer one has not said.
  if (hello.moment <= heard_moment_) return;
  heard_moment_ = hello.moment;
  credits_ = std::min(hello.credits, kCredits);
  bool answer = false;
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    Path& path = paths_[i];
    const wire::PathOffer& offer = hello.offers[i];
    if (offer.epoch > path.epoch) {
      break_path(path, now_ns());
      begin_epoch(path, offer.epoch);
    } else if (offer.epoch < path.epoch) {
      answer = true;
      continue;
    }
    if (path.connection == nullptr || offer.queue_pair == 0) continue;
    if (path.state == State::kOffered) {
      if (!connect_path(path, offer)) continue;
      answer = true;
    }
    if (path.state == State::kConnected && offer.known_epoch == path.epoch) prove(path);
    answer |= offer.ready == 0;
  }
  if (answer) send_hello();
  transport_.tick_soon();
}

void VerbsChannel::send_hello() {
  wire::Hello hello;
  hello.magic = wire::kHelloMagic;
  hello.version = wire::kVersion;
  hello.paths = static_cast<std::uint16_t>(paths_.size());
  hello.from = transport_.self_.uid;
  hello.to = address_.uid;
  hello.credits = kCredits;
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    const Path& path = paths_[i];
    wire::PathOffer& offer = hello.offers[i];
    offer.epoch = path.epoch;
    if (path.connection == nullptr) continue;
    offer.queue_pair = path.connection->pair->number();
    offer.psn = path.connection->psn;
    const bool both = path.state == State::kProving || path.state == State::kReady;
    offer.known_epoch = both || path.state == State::kConnected ? path.epoch : 0;
    offer.ready = both ? 1 : 0;
  }
  // Grows even where a channel to the peer was given up half made, and this is another.
  said_moment_ = hello.moment = std::max(now_ns(), said_moment_ + 1);
  wire::prove(hello, hello_key_);
  // Another way each time: one of them may be down.
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    const Path& path = paths_[hellos_++ % paths_.size()];
    if (!path.rail->active()) continue;
    const auto bytes = std::as_bytes(std::span(&hello, 1));
    if (path.rail->send_datagram(path.remote, bytes)) break;
  }
  hello_ns_ = now_ns();
  transport_.tick_soon();
}

void VerbsChannel::on_port_event(Rail& rail, bool active) {
  const std::uint64_t now = now_ns();
  for (Path& path : paths_) {
    if (path.rail != &rail) continue;
    if (!active) {
      note(path, "port down");
      break_path(path, now);
    }
    path.retry_ns = now + kRetryNs;
  }
  transport_.tick_soon();
}

std::uint64_t VerbsChannel::tick(std::uint64_t now) {
  if (failed_) return kNever;
  bool offering = false;
  bool proving = false;
  std::uint64_t next = kNever;
  for (Path& path : paths_) {
    const bool tries = path.state == State::kDown && path.rail->active();
    if (tries && now >= path.retry_ns && begin_epoch(path, path.epoch + 1)) {
      hello_ns_ = 0;
      hello_interval_ns_ = 0;
    } else if (tries) {
      next = std::min(next, path.retry_ns);
    }
    offering |= path.state == State::kOffered || path.state == State::kConnected;
    proving |= path.state == State::kProving;
  }
  if (proving) next = std::min(next, now + kFirstRepeatNs);  // nobody else may look for its end
  if (offering) {
    if (now - hello_ns_ >= hello_interval_ns_) {
      send_hello();
      hello_interval_ns_ = std::clamp(2 * hello_interval_ns_, kFirstRepeatNs, kLastRepeatNs);
    }
    next = std::min(next, hello_ns_ + hello_interval_ns_);
  }
  if (deadline_ns_ == 0) return next;
  if (now < deadline_ns_) return std::min(next, deadline_ns_);
  // A process that was stopped for so long may just have heard from the peer.
  if (proving && now < deadline_ns_ + kProofNs) return next;
  if (last_error_.empty()) last_error_ = "no answer";
  failed_ = true;
  return kNever;
}

void VerbsChannel::abandon() noexcept {
  failed_ = abandoned_ = true;
  primary_ = nullptr;
  for (Path& path : paths_) {
    path.connection = nullptr;
    path.state = State::kDown;
  }
  transport_.close_all(*this);
}

}  // namespace mooncake_mpi::verbs
