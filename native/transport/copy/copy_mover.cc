// One process reads the other's memory. The receiver copies chunk after chunk; if the sender is
// waiting, too, it takes chunks of the same job and writes them: two cores copy faster than one.
// Without a job (all in use, a short message, this process itself) the receiver copies alone. Where
// it cannot read, the sender writes alone. Engine lock held for every call; the two processes share
// a job by atomic claims.
#include "transport/copy/copy_mover.h"

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "wire/copy_notes.h"

namespace mooncake_mpi {
namespace {

// Of a shared copy: small enough that both sides end together, large enough that a system call's
// fixed cost disappears: a half each of a short message.
std::uint32_t choose_chunk_bytes(std::uint64_t bytes) {
  constexpr std::uint64_t kShort = 128 * 1024;
  constexpr std::uint64_t kSmallest = 16 * 1024;
  constexpr std::uint64_t kPage = 4096;
  const std::uint64_t share = bytes <= kShort ? bytes / 2 : bytes / 4;
  const std::uint64_t most = std::max(CopyWork::kTurnBytes, bytes / CopyJob::kMaxChunks + 1);
  const std::uint64_t pages = (std::clamp(share, kSmallest, most) + kPage - 1) / kPage;
  return static_cast<std::uint32_t>(pages * kPage);
}

std::uint64_t bytes_of(const Copy& copy, CopyJob::Claim claim) noexcept {
  const std::uint64_t offset = std::uint64_t{claim.first} * copy.chunk_bytes;
  return std::min<std::uint64_t>(std::uint64_t{claim.count} * copy.chunk_bytes,
                                 copy.move.bytes - offset);
}

template <class Layout>
Bytes as_note(const Layout& layout) noexcept {
  return std::as_bytes(std::span(&layout, 1));
}

}  // namespace

Answer CopyMover::expose(const Buffer& buffer, Access access, Exposure& exposure) noexcept {
  if (buffer.device != nullptr || buffer.address == nullptr) return Answer::kNo;
  const wire::Place place = work_.place_of(buffer.address, buffer.bytes);
  if (access == Access::kWrite && place.region == 0 && !work_.config_.writable) return Answer::kNo;
  exposure.key_bytes = sizeof place;
  std::memcpy(exposure.key.data(), &place, sizeof place);
  return Answer::kYes;
}

bool CopyMover::start_read(const Move& into, Bytes key, PacketSink& sink) {
  const auto place = wire::decode_place(key, into.bytes);
  if (!place) return false;
  const RemoteMemory remote{place->address, place->region};
  const Reach way = reach(remote, into.bytes);
  if (way == Reach::kNone) return false;
  Copy* copy = work_.take(*this, Copy::Role::kRead, into, remote);
  if (copy == nullptr) return false;
  copy->mapped = way == Reach::kMapped;
  copy->undecided = is_streamed(way, into.bytes) && into.sink == nullptr;
  if (copy->undecided) ++undecided_;
  work_.copies_.push_back(*copy);  // not before the next poll: the sender may have moved the bytes
  if (!copy->undecided && is_shareable(into)) share(*copy, sink);
  return true;
}

// Asks the peer to take chunks of a copy, too.
void CopyMover::share(Copy& copy, PacketSink& sink) {
  const Move& into = copy.move;
  copy.chunk_bytes = choose_chunk_bytes(into.bytes);
  copy.chunk_count =
      static_cast<std::uint32_t>((into.bytes + copy.chunk_bytes - 1) / copy.chunk_bytes);
  if (copy.chunk_count <= 1 || !is_helpful(into.bytes)) return;
  copy.job = acquire_job();
  if (copy.job == kNoJob) return;
  copy.generation = work_.next_generation_++;
  own_job(copy.job)->open(copy.generation);
  wire::ShareCopy share;
  share.job = copy.job;
  share.receive_id = into.id;
  share.place = work_.place_of(into.address, into.bytes);
  share.length = into.bytes;
  share.chunk_bytes = copy.chunk_bytes;
  share.generation = copy.generation;
  sink.send_note(peer_, lane(), into.peer_id, as_note(share));
}

bool CopyMover::is_streamed(Reach way, std::uint64_t bytes) const noexcept {
  return way == Reach::kKernel && bytes <= work_.config_.limits.stream_bytes;
}

// When a copy's turn comes: one whose sender waits in a call may end here, and a stream is asked
// for. A sender that has just announced it gets a moment to come that far. True: it is copied.
bool CopyMover::decide(Copy& copy, PacketSink& sink) {
  constexpr std::uint64_t kMomentNs = 1'000;
  const bool attended = is_attended();
  const std::uint64_t now = now_ns();
  if (copy.since_ns == 0) copy.since_ns = now;
  if (!attended && now - copy.since_ns < kMomentNs) return false;
  copy.undecided = false;
  --undecided_;
  const WayChoice::Way way =
      choice_.begin(copy.move.bytes, attended, now, sink.bytes_sent(peer_), leader());
  tell_follower(choice_.says());
  if (way == WayChoice::kStream) {
    copy.unreadable = true;
    return false;
  }
  copy.chosen = true;
  if (is_shareable(copy.move)) share(copy, sink);
  return true;
}

void CopyMover::on_streamed(PacketSink& sink) noexcept {
  learn(sink);
}

void CopyMover::learn(PacketSink& sink) noexcept {
  choice_.end(now_ns(), sink.bytes_sent(peer_), undecided_ != 0);
}

bool CopyMover::start_write(const Move& from, Bytes key, PacketSink&) {
  const auto place = wire::decode_place(key, from.bytes);
  if (!place) return false;
  const RemoteMemory remote{place->address, place->region};
  const Reach way = reach(remote, from.bytes);
  if (way == Reach::kNone || is_streamed(way, from.bytes)) return false;
  Copy* copy = work_.take(*this, Copy::Role::kWrite, from, remote);
  if (copy == nullptr) return false;
  copy->mapped = way == Reach::kMapped;
  work_.copies_.push_back(*copy);
  return true;
}

bool CopyMover::over(const Copy& copy) noexcept {
  if (copy.role == Copy::Role::kWrite) {
    return copy.error != Error::kNone || copy.done == copy.move.bytes;
  }
  if (copy.job == kNoJob) {
    return copy.unreadable || copy.error != Error::kNone || copy.done == copy.move.bytes;
  }
  return own_job(copy.job)->done.load(std::memory_order_acquire) == copy.chunk_count;
}

// A peer that did not help the last time, as it has its own to do, is asked again after a while: to
// share with nobody costs a packet, and smaller copies.
bool CopyMover::is_helpful(std::uint64_t bytes) noexcept {
  constexpr std::uint64_t kAlways = 512 * 1024;  // what asking costs is nothing beside these
  if (helped_ || bytes >= kAlways) return true;
  if (++unshared_ < patience_) return false;
  unshared_ = 0;
  return true;
}

void CopyMover::finish(Copy& copy, PacketSink& sink) noexcept {
  if (copy.chosen && !copy.unreadable) [[unlikely]]
    learn(sink);
  if (copy.role == Copy::Role::kRead && copy.job != kNoJob) finish_shared(copy);
}

void CopyMover::finish_shared(Copy& copy) noexcept {
  release_job(copy.job);
  helped_ = copy.own_chunks < copy.chunk_count;
  constexpr std::uint32_t kFirst = 4;
  constexpr std::uint32_t kLast = 64;
  patience_ = helped_ ? kFirst : std::min(2 * patience_, kLast);
}

std::uint64_t CopyMover::advance(Copy& copy, PacketSink& sink) {
  if (copy.undecided && !decide(copy, sink)) return 0;
  switch (copy.role) {
    case Copy::Role::kRead:
      return copy.job == kNoJob ? read_alone(copy) : read_shared(copy);
    case Copy::Role::kWrite:
      return write_alone(copy);
    case Copy::Role::kHelp:
      return help(copy, sink);
  }
  return 0;
}

// A fault is the buffer's; everything else says that this way is closed, and another may not be.
void CopyMover::take_error(Copy& copy, Error error) const noexcept {
  if (error == Error::kBuffer) {
    copy.error = error;
  } else if (error != Error::kNone) {
    copy.unreadable = true;
  }
}

std::uint64_t CopyMover::read_alone(Copy& copy) noexcept {
  const std::uint64_t bytes = std::min(CopyWork::kTurnBytes, copy.move.bytes - copy.done);
  const std::span<std::byte> to = copy.move.sink != nullptr
                                      ? copy.move.sink->room(copy.done, bytes)
                                      : std::span(copy.move.address + copy.done, bytes);
  if (to.empty()) return 0;
  take_error(copy, read(to.data(), copy.remote + copy.done, to.size(), past_caches(copy)));
  ++work_.counters_.chunks_read;
  work_.counters_.chunks_mapped += copy.mapped ? 1 : 0;
  if (copy.unreadable || copy.error != Error::kNone) return to.size();
  if (copy.move.sink != nullptr) copy.move.sink->put(copy.done, to.size());
  copy.done += to.size();
  return to.size();
}

void CopyMover::read_chunks(Copy& copy, CopyJob::Claim claim) noexcept {
  const std::uint64_t offset = std::uint64_t{claim.first} * copy.chunk_bytes;
  if (copy.error == Error::kNone) {
    take_error(copy, read(copy.move.address + offset, copy.remote + offset, bytes_of(copy, claim),
                          past_caches(copy)));
  }
  ++work_.counters_.chunks_read;
  work_.counters_.chunks_mapped += copy.mapped ? 1 : 0;
}

std::uint64_t CopyMover::read_shared(Copy& copy) noexcept {
  CopyJob& job = *own_job(copy.job);
  CopyJob::Claim claim = job.claim(copy.generation, copy.chunk_count, CopyJob::End::kFront);
  std::uint64_t bytes = 0;
  if (claim.count != 0) {
    if (!copy.unreadable) read_chunks(copy, claim);
    job.finish(claim.count, copy.chunk_count);
    copy.own_chunks += claim.count;
    bytes = bytes_of(copy, claim);
  }
  // What is left is taken out of the job, so that only what the sender has claimed is waited for.
  while (copy.unreadable && claim.count != 0) {
    claim = job.claim_rest(copy.generation, copy.chunk_count);
    if (claim.count != 0) job.finish(claim.count, copy.chunk_count);
  }
  return bytes;
}

std::uint64_t CopyMover::write_alone(Copy& copy) noexcept {
  const std::uint64_t most = std::min(CopyWork::kTurnBytes, copy.move.bytes - copy.done);
  std::uint64_t written = 0;
  while (written < most) {
    const std::uint64_t left = most - written;
    const Bytes run = copy.move.source != nullptr ? Bytes(copy.move.source->at(copy.done, left))
                                                  : Bytes(copy.move.address + copy.done, left);
    if (run.empty()) {
      // Its device has failed: the receiver hears of it from the stream that comes instead.
      if (copy.move.source->failed()) copy.error = Error::kBuffer;
      break;
    }
    copy.error = write(run.data(), copy.remote + copy.done, run.size(), past_caches(copy));
    if (copy.error != Error::kNone) break;
    copy.done += run.size();
    written += run.size();
  }
  if (written == 0 && copy.error == Error::kNone) return 0;
  ++work_.counters_.chunks_written;
  work_.counters_.chunks_mapped += copy.mapped ? 1 : 0;
  return written;
}

Error CopyMover::write_chunks(Copy& copy, CopyJob::Claim claim) noexcept {
  const std::uint64_t offset = std::uint64_t{claim.first} * copy.chunk_bytes;
  ++work_.counters_.chunks_written;
  work_.counters_.chunks_mapped += copy.mapped ? 1 : 0;
  return write(copy.move.address + offset, copy.remote + offset, bytes_of(copy, claim),
               past_caches(copy));
}

std::uint64_t CopyMover::help(Copy& copy, PacketSink& sink) {
  CopyJob& job = *peer_job(copy.job);
  const CopyJob::Claim claim = job.claim(copy.generation, copy.chunk_count, CopyJob::End::kBack);
  if (claim.count == 0) return 0;  // nothing left: FIN will come
  if (write_chunks(copy, claim) != Error::kNone) {
    const wire::ChunksFailed failed{.first = claim.first, .count = claim.count};
    sink.send_note(peer_, lane(), copy.peer_id, as_note(failed));
  } else if (job.finish(claim.count, copy.chunk_count)) {
    ring();  // the receiver may sleep until the last chunk is there
  }
  return bytes_of(copy, claim);
}

bool CopyMover::on_note(const Move& local, Bytes note, PacketSink&) {
  return begin_help(local, note) || take_back_chunks(local, note);
}

// A sender that cannot write leaves it all to the receiver, which has begun already.
bool CopyMover::begin_help(const Move& local, Bytes note) {
  const auto share = wire::decode_share(note);
  if (!share || share->length > local.bytes || local.address == nullptr) return false;
  const RemoteMemory remote{share->place.address, share->place.region};
  const Reach way = reach(remote, share->length);
  if (peer_job(share->job) == nullptr || way == Reach::kNone) return true;
  Move move = local;
  move.bytes = share->length;
  Copy* copy = work_.take(*this, Copy::Role::kHelp, move, remote);
  if (copy == nullptr) return true;
  copy->mapped = way == Reach::kMapped;
  copy->peer_id = share->receive_id;
  copy->chunk_bytes = share->chunk_bytes;
  copy->chunk_count =
      static_cast<std::uint32_t>((share->length + share->chunk_bytes - 1) / share->chunk_bytes);
  copy->job = share->job;
  copy->generation = share->generation;
  work_.helps_.push_back(*copy);
  return true;
}

// The sender could not write chunks that it had claimed: this process reads them.
bool CopyMover::take_back_chunks(const Move& local, Bytes note) {
  const auto failed = wire::decode_chunks_failed(note);
  bool found = false;
  work_.copies_.for_each([&](Copy& copy) {
    if (!failed || found || copy.mover != this || copy.move.id != local.id ||
        copy.role != Copy::Role::kRead || copy.job == kNoJob || failed->first >= copy.chunk_count ||
        failed->count > copy.chunk_count - failed->first) {
      return;
    }
    found = true;
    const CopyJob::Claim claim{failed->first, failed->count};
    if (!copy.unreadable) read_chunks(copy, claim);
    own_job(copy.job)->finish(claim.count, copy.chunk_count);
  });
  return found;
}

void CopyMover::stop(std::uint64_t id) noexcept {
  work_.drop_send(*this, id);
}

void CopyMover::abandon() noexcept {
  work_.drop(*this);
}

}  // namespace mooncake_mpi
