// Rendezvous where one process can read the other's memory. The receiver copies chunk after chunk;
// if the sender is waiting, too, it takes chunks of the same job and writes them: two cores copy
// faster than one. Without a job (all in use, a short message, this process itself) the receiver
// copies alone.
#include <algorithm>

#include "protocol/protocol.h"
#include "protocol/send_control.h"

namespace mooncake_mpi {

using Stage = Operation::Stage;

namespace {

// Small enough that both sides end together and that other traffic has its turn, large enough
// that a system call's fixed cost (0.5 us) disappears: a half each of a short message.
std::uint32_t choose_chunk_bytes(std::uint64_t bytes) {
  constexpr std::uint64_t kShort = 128 * 1024;
  constexpr std::uint64_t kSmallest = 16 * 1024;
  constexpr std::uint64_t kLargest = 256 * 1024;
  constexpr std::uint64_t kPage = 4096;
  const std::uint64_t share = bytes <= kShort ? bytes / 2 : bytes / 4;
  const std::uint64_t pages = (share + kPage - 1) / kPage;
  return static_cast<std::uint32_t>(std::clamp(pages * kPage, kSmallest, kLargest));
}

}  // namespace

RegionId Protocol::region_of(const Buffer& buffer) const {
  return pool_ != nullptr ? pool_->region_of(buffer.address, buffer.bytes) : 0;
}

void Protocol::set_chunks(Operation& operation, std::uint32_t chunk_bytes) const noexcept {
  operation.chunk_bytes = chunk_bytes;
  operation.chunk_count =
      static_cast<std::uint32_t>((operation.transfer_bytes + chunk_bytes - 1) / chunk_bytes);
  operation.next_chunk = 0;
}

void Protocol::start_transfer(Operation& receive, Peer& from, std::uint64_t send_id,
                              const RemoteMemory& remote, Bytes key) {
  receive.remote_id = send_id;
  receive.remote = remote;
  receive.transferred_bytes = 0;
  receive.job = Channel::kNoJob;
  receive.unreadable = false;
  receive.stage = Stage::kCopying;
  if (from.failure != Error::kNone) [[unlikely]] {  // its memory is gone
    abort(receive, from.failure);
    return;
  }
  if (receive.transfer_bytes == 0) {
    send_control(from, wire::Fin{send_id, 0, 0});
    complete(receive, Error::kNone);
    return;
  }
  wire::Cts cts{.send_id = send_id,
                .receive_id = receive.id(),
                .address = reinterpret_cast<std::uint64_t>(receive.buffer.address),
                .region = 0,
                .length = receive.transfer_bytes,
                .copy_job = 0,
                .chunk_bytes = 0,
                .generation = 0};
  const bool gathered = (receive.header.flags & wire::kGathered) != 0;
  const Reach reach = gathered ? Reach::kNone : from.channel->reach(remote, receive.transfer_bytes);
  if (reach == Reach::kNone) {
    receive.stage = Stage::kReading;
    const bool reading =
        !key.empty() && from.channel->start_read(receive.id(), receive.buffer.address,
                                                 remote.address, receive.transfer_bytes, key);
    if (!reading) stream(receive);
    return;
  }
  receive.mapped = reach == Reach::kMapped;
  set_chunks(receive, choose_chunk_bytes(receive.transfer_bytes));
  if (receive.transfer_bytes >= limits_.shared_copy_bytes && receive.chunk_count > 1) {
    receive.job = from.channel->acquire_job();
  }
  if (receive.job != Channel::kNoJob) {
    receive.job_generation = next_job_generation_++;
    from.channel->own_job(receive.job)->open(receive.job_generation);
    cts.region = region_of(receive.buffer);
    cts.copy_job = receive.job;
    cts.chunk_bytes = receive.chunk_bytes;
    cts.generation = receive.job_generation;
    send_control(from, cts, wire::kTogether);
  }
  work_.push_back(receive);  // not before the next poll: the sender may have moved the bytes
}

// Asks the sender for the bytes: the way that always works.
void Protocol::stream(Operation& receive) {
  receive.stage = Stage::kStreaming;
  receive.moved = false;
  const RegionId region = region_of(receive.buffer);
  receive.may_be_written = region != 0 || (writable_ && !receive.peer->channel->is_far());
  const std::uint64_t address = reinterpret_cast<std::uint64_t>(receive.buffer.address);
  const wire::Cts cts{.send_id = receive.remote_id,
                      .receive_id = receive.id(),
                      .address = receive.may_be_written ? address : 0,
                      .region = region,
                      .length = receive.transfer_bytes,
                      .copy_job = 0,
                      .chunk_bytes = 0,
                      .generation = 0};
  send_control(*receive.peer, cts, wire::kStream);
}

void Protocol::on_read(std::uint64_t id, Error error) {
  outbox_memory_.reserve();
  Operation* receive = operations_.find(id);
  if (receive == nullptr || receive->stage != Stage::kReading) return;
  if (error != Error::kNone || receive->moved) {
    stream(*receive);
    return;
  }
  ++counters_.remote_reads;
  send_control(*receive->peer, wire::Fin{receive->remote_id, 0, 0});
  complete(*receive, Error::kNone);
}

std::uint64_t Protocol::chunk_size(const Operation& operation, std::uint32_t chunk) const noexcept {
  const std::uint64_t offset = std::uint64_t{chunk} * operation.chunk_bytes;
  return std::min<std::uint64_t>(operation.chunk_bytes, operation.transfer_bytes - offset);
}

void Protocol::read_chunk(Operation& receive, std::uint32_t chunk) {
  const std::uint64_t offset = std::uint64_t{chunk} * receive.chunk_bytes;
  if (receive.completion.error == Error::kNone || receive.completion.error == Error::kTruncate) {
    const Error error = receive.peer->channel->read_peer(
        receive.buffer.address + offset, receive.remote + offset, chunk_size(receive, chunk),
        receive.transfer_bytes >= limits_.past_caches_bytes);
    if (error == Error::kBuffer) {
      receive.completion.error = error;
    } else if (error != Error::kNone) {
      receive.unreadable = true;
    }
  }
  ++counters_.chunks_read;
  counters_.chunks_mapped += receive.mapped ? 1 : 0;
}

unsigned Protocol::advance_copy(Operation& receive) {
  if (receive.job == Channel::kNoJob) {
    read_chunk(receive, receive.next_chunk++);
    if (receive.next_chunk == receive.chunk_count || receive.unreadable) finish_copy(receive);
    return 1;
  }
  CopyJob& job = *receive.peer->channel->own_job(receive.job);
  std::uint32_t chunk = job.claim(receive.job_generation, receive.chunk_count);
  if (chunk != CopyJob::kNone) {
    if (!receive.unreadable) read_chunk(receive, chunk);
    job.finish_chunk(receive.chunk_count);
  }
  // What is left is taken out of the job, so that only what the sender has claimed is waited for.
  while (receive.unreadable && chunk != CopyJob::kNone) {
    chunk = job.claim(receive.job_generation, receive.chunk_count);
    if (chunk != CopyJob::kNone) job.finish_chunk(receive.chunk_count);
  }
  if (job.done.load(std::memory_order_acquire) == receive.chunk_count) {
    finish_copy(receive);
    return 1;
  }
  return chunk != CopyJob::kNone ? 1 : 0;  // 0: the sender still copies what it claimed
}

void Protocol::finish_copy(Operation& receive) {
  Peer& from = *receive.peer;
  if (receive.job != Channel::kNoJob) from.channel->release_job(receive.job);
  if (receive.moved) [[unlikely]] {
    receive.job = Channel::kNoJob;
    receive.moved = false;
    receive.next_chunk = 0;
    receive.unreadable =
        from.channel->reach(receive.remote, receive.transfer_bytes) == Reach::kNone;
    if (!receive.unreadable) return;
  }
  if (receive.unreadable) {
    IntrusiveList<Operation, WorkTag>::remove(receive);
    receive.job = Channel::kNoJob;
    return stream(receive);
  }
  const bool copied =
      receive.completion.error == Error::kNone || receive.completion.error == Error::kTruncate;
  send_control(from, wire::Fin{receive.remote_id, copied ? 0u : 1u, 0});
  complete(receive, Error::kNone);
}

void Protocol::on_cts(Peer& from, const wire::Header& header, Bytes payload) {
  wire::Cts cts;
  if (wire::decode(header, payload, cts) != wire::Error::kNone) {
    ++counters_.packets_rejected;
    return;
  }
  Operation* send = find_send(from, cts.send_id);
  if (send == nullptr) return;
  if (send->stage == Stage::kCopying && send->job != Channel::kNoJob &&
      (header.flags & wire::kStream) != 0) {
    // The receiver began with a shared copy and can go on with it no longer.
    IntrusiveList<Operation, WorkTag>::remove(*send);
    send->stage = Stage::kAnnounced;
  }
  if (send->stage != Stage::kAnnounced || cts.length > send->buffer.bytes || cts.length == 0) {
    ++counters_.packets_rejected;
    return;
  }
  send->remote_id = cts.receive_id;
  send->remote = {cts.address, cts.region};
  send->transfer_bytes = cts.length;
  const Reach reach = from.channel->reach(send->remote, cts.length);
  send->mapped = reach == Reach::kMapped;
  if ((header.flags & wire::kStream) != 0) {
    start_writing(*send, reach);
    return;
  }
  if ((header.flags & wire::kTogether) == 0) {
    ++counters_.packets_rejected;
    return;
  }
  const std::uint64_t chunks = (cts.length + cts.chunk_bytes - 1) / cts.chunk_bytes;
  // A sender that cannot write leaves it all to the receiver, which has begun already.
  if (from.channel->peer_job(cts.copy_job) == nullptr || reach == Reach::kNone ||
      chunks > UINT32_MAX) {
    return;
  }
  send->stage = Stage::kCopying;
  send->job = cts.copy_job;
  send->job_generation = static_cast<std::uint32_t>(cts.generation);
  send->chunk_bytes = cts.chunk_bytes;
  send->chunk_count = static_cast<std::uint32_t>(chunks);
  work_.push_back(*send);
}

Error Protocol::write_chunk(Operation& send, std::uint32_t chunk) {
  std::uint64_t offset = std::uint64_t{chunk} * send.chunk_bytes;
  const std::uint64_t end = offset + chunk_size(send, chunk);
  const bool past_caches = send.transfer_bytes >= limits_.past_caches_bytes;
  ++counters_.chunks_written;
  counters_.chunks_mapped += send.mapped ? 1 : 0;
  while (offset < end) {
    const Bytes run = bytes_at(send, offset, end - offset);
    const Error error =
        send.peer->channel->write_peer(run.data(), send.remote + offset, run.size(), past_caches);
    if (error != Error::kNone) return error;
    offset += run.size();
  }
  return Error::kNone;
}

Bytes Protocol::bytes_at(const Operation& send, std::uint64_t offset, std::uint64_t most) noexcept {
  if (send.pieces == nullptr) return {send.buffer.address + offset, most};
  const Bytes run = send.pieces->run(offset);
  return run.first(std::min<std::uint64_t>(run.size(), most));
}

unsigned Protocol::advance_help(Operation& send) {
  Channel& channel = *send.peer->channel;
  CopyJob& job = *channel.peer_job(send.job);
  const std::uint32_t chunk = job.claim(send.job_generation, send.chunk_count);
  if (chunk == CopyJob::kNone) {  // nothing left: FIN will come
    IntrusiveList<Operation, WorkTag>::remove(send);
    send.stage = Stage::kAnnounced;
    return 1;
  }
  if (write_chunk(send, chunk) != Error::kNone) {
    send_control(*send.peer, wire::ChunkFailed{send.remote_id, chunk, 0});
  } else if (job.finish_chunk(send.chunk_count)) {
    channel.ring();  // the receiver may sleep until the last chunk is there
  }
  return 1;
}

// The sender could not write a chunk that it had claimed: the receiver reads it.
void Protocol::on_chunk_failed(Peer& from, const wire::Header& header, Bytes payload) {
  wire::ChunkFailed failed;
  Operation* receive = nullptr;
  if (wire::decode(header, payload, failed) == wire::Error::kNone) {
    receive = operations_.find(failed.receive_id);
  }
  if (receive == nullptr || receive->kind != Operation::Kind::kReceive || receive->peer != &from ||
      receive->stage != Stage::kCopying || receive->job == Channel::kNoJob ||
      failed.chunk >= receive->chunk_count) {
    ++counters_.packets_rejected;
    return;
  }
  if (!receive->unreadable) read_chunk(*receive, failed.chunk);
  from.channel->own_job(receive->job)->finish_chunk(receive->chunk_count);
}

}  // namespace mooncake_mpi
