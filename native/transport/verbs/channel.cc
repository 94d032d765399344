// Packets: sent over the primary path, kept until the peer has consumed them, delivered in order.
// Engine lock held for every call.
#include "transport/verbs/channel.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/clock.h"
#include "transport/verbs/mover.h"
#include "transport/verbs/verbs_transport.h"
#include "wire/payload.h"

namespace mooncake_mpi::verbs {

using verbs_driver::SendRequest;
using verbs_driver::Status;

namespace {

constexpr std::size_t kHeadBytes = wire::kPacketHeadBytes;
constexpr std::size_t kBytesPerPacket = kPacketBytes - kHeadBytes;  // of the payload
constexpr std::uint32_t kCreditSlots = 4;
constexpr std::uint32_t kCreditBytes = kHeadBytes + sizeof(wire::Credit);

// Whether sequence number `one` is after `other`; they wrap round.
bool after(std::uint32_t one, std::uint32_t other) noexcept {
  return static_cast<std::int32_t>(one - other) > 0;
}

}  // namespace

VerbsChannel::VerbsChannel(VerbsTransport& transport, const wire::Address& address, Peer& peer)
    : transport_(transport),
      address_(address),
      remote_rails_(
          wire::decode_rails(address.section(VerbsTransport::kLane)).value_or(wire::Rails{})),
      peer_(peer),
      hello_key_(wire::hello_key(transport.self_, {address.uid, address.job_secret})) {}

VerbsChannel::~VerbsChannel() {
  abandon();
  for (Path& path : paths_) {
    for (; path.slabs != 0; --path.slabs)
      path.rail->release_receives();
  }
  transport_.channels_.erase(address_.uid);
  std::erase(transport_.attention_, this);
  std::replace(transport_.attending_.begin(), transport_.attending_.end(), this,
               static_cast<VerbsChannel*>(nullptr));
}

Result<bool> VerbsChannel::open() {
  slots_ = Pages(std::size_t{kSendSlots + kCreditSlots} * kPacketBytes);
  if (slots_.data() == nullptr) return Failure{Error::kNoMemory, "no memory for packets"};
  std::size_t remote_count = 0;
  while (remote_count < wire::kMaxRails && remote_rails_[remote_count].queue_pair != 0)
    ++remote_count;
  // Both sides pair their rails in the same way.
  const std::size_t count = std::max(remote_count, transport_.rails_.size());
  bool any = false;
  paths_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    Path& path = paths_[i];
    path.rail_index = static_cast<std::uint8_t>(i % transport_.rails_.size());
    path.remote_index = static_cast<std::uint8_t>(i % remote_count);
    path.rail = transport_.rails_[path.rail_index].get();
    path.remote = remote_rails_[path.remote_index];
    any |= begin_epoch(path, 1);
  }
  if (!any) {
    return Failure{short_of_memory_ ? Error::kNoMemory : Error::kUnreachable, last_error_};
  }
  deadline_ns_ = now_ns() + transport_.config_.timeout_ns;
  hello_interval_ns_ = 0;
  send_hello();
  return true;
}

std::size_t VerbsChannel::max_payload_bytes() const noexcept {
  // Those of a peer that grants few credits fit one packet; how many they are is not known yet
  // before it has answered.
  return kBytesPerPacket * (credits_ >= 2 * kPacketsPerPayload ? kPacketsPerPayload : 1);
}

std::size_t VerbsChannel::packet_payload_bytes() const noexcept {
  return kBytesPerPacket;
}

std::byte* VerbsChannel::slot(std::uint32_t sequence) const noexcept {
  return slots_.data() + std::size_t{sequence % kSendSlots} * kPacketBytes;
}

wire::Frame VerbsChannel::frame(std::uint32_t sequence) noexcept {
  told_consumed_ = consumed_;
  return {sequence, consumed_, returned_};
}

bool VerbsChannel::try_send(const wire::Header& header, Bytes prefix, Bytes payload) noexcept {
  const std::size_t total = prefix.size() + payload.size();
  if (total > kBytesPerPacket) [[unlikely]]
    return try_send_several(header, prefix, payload);
  if (!has_room()) return false;
  const std::uint32_t sequence = next_sequence_;
  fill_packet(sequence, header, prefix, payload);
  if (!post_packet(sequence)) return false;
  next_sequence_ = sequence + 1;
  return true;
}

// Once the first packet is posted the others follow, if need be over another path.
bool VerbsChannel::try_send_several(wire::Header header, Bytes prefix, Bytes payload) noexcept {
  const std::size_t total = prefix.size() + payload.size();
  const auto packets = static_cast<std::uint32_t>((total + kBytesPerPacket - 1) / kBytesPerPacket);
  if (!has_room(packets)) return false;
  header.flags |= wire::kContinued;
  for (std::uint32_t sequence = next_sequence_; sequence != next_sequence_ + packets; ++sequence) {
    const std::size_t bytes = std::min(payload.size(), kBytesPerPacket - prefix.size());
    if (bytes == payload.size()) header.flags = 0;
    fill_packet(sequence, header, prefix, payload.first(bytes));
    header = wire::control_header(wire::kContinuation, header.context, header.source, 0,
                                  wire::kContinued);
    prefix = {};
    payload = payload.subspan(bytes);
  }
  if (!post_packet(next_sequence_)) return false;
  next_sequence_ += packets;
  replay();
  if (posted_sequence_ + 1 != next_sequence_) transport_.attend_later(*this);
  return true;
}

void VerbsChannel::fill_packet(std::uint32_t sequence, const wire::Header& header, Bytes prefix,
                               Bytes payload) noexcept {
  std::byte* to = slot(sequence) + sizeof(wire::Frame);
  wire::Header complete = header;
  complete.payload_bytes = static_cast<std::uint32_t>(prefix.size() + payload.size());
  std::memcpy(to, &complete, sizeof complete);
  to += sizeof complete;
  if (!prefix.empty()) std::memcpy(to, prefix.data(), prefix.size());
  if (!payload.empty()) std::memcpy(to + prefix.size(), payload.data(), payload.size());
  slot_bytes_[sequence % kSendSlots] =
      static_cast<std::uint32_t>(kHeadBytes) + complete.payload_bytes;
}

bool VerbsChannel::post_packet(std::uint32_t sequence) noexcept {
  std::byte* address = slot(sequence);
  const wire::Frame front = frame(sequence);
  std::memcpy(address, &front, sizeof front);
  SendRequest request;
  request.address = address;
  request.bytes = slot_bytes_[sequence % kSendSlots];
  request.local_key = slot_regions_[primary_->path->rail_index]->local_key();
  if (!post(*primary_, request, {.fragment = {}, .sequence = sequence, .packet = true}, false)) {
    return false;
  }
  posted_sequence_ = sequence;
  return true;
}

bool VerbsChannel::post(Connection& connection, SendRequest request,
                        const Connection::Request& entry, bool signaled) noexcept {
  if (connection.failed || connection.room() == 0) return false;
  const std::uint32_t number = connection.posted;
  request.id = ConnectionTable::id_of(connection, number);
  request.signaled = signaled || connection.unsignaled + 1 >= kSignalEvery;
  request.inlined = request.operation == SendRequest::Operation::kSend &&
                    request.bytes <= connection.pair->inline_bytes();
  connection.request(number) = entry;
  // Counted first: the completion may be there before the call returns.
  ++connection.posted;
  const int error = connection.pair->post_send(request);
  if (error != 0) {
    --connection.posted;
    if (error != ENOMEM) {  // a full queue has room again soon
      note(*connection.path, "post_send: ", std::strerror(error));
      break_path(*connection.path, now_ns());
    }
    return false;
  }
  connection.unsignaled = request.signaled ? 0 : connection.unsignaled + 1;
  return true;
}

// What the peer has not consumed goes again over the new primary path.
void VerbsChannel::replay() noexcept {
  while (primary_ != nullptr && posted_sequence_ + 1 != next_sequence_) {
    if (!post_packet(posted_sequence_ + 1)) return;
  }
}

void VerbsChannel::return_credit(std::uint32_t bytes) noexcept {
  returned_ += bytes;
}

bool VerbsChannel::owes_credit() const noexcept {
  return tell_credit_ || consumed_ - told_consumed_ >= kCredits / 2;
}

void VerbsChannel::send_credit() noexcept {
  std::byte* address =
      slots_.data() + std::size_t{kSendSlots + consumed_ % kCreditSlots} * kPacketBytes;
  const std::uint32_t told = told_consumed_;
  const wire::Frame front = frame(0);
  const wire::Header header = wire::control_header(wire::Kind::kCredit, 0, 0, sizeof(wire::Credit));
  std::memcpy(address, &front, sizeof front);
  std::memcpy(address + sizeof front, &header, sizeof header);
  wire::encode(wire::Credit{returned_}, address + kHeadBytes);
  SendRequest request;
  request.address = address;
  request.bytes = kCreditBytes;
  request.local_key = slot_regions_[primary_->path->rail_index]->local_key();
  if (post(*primary_, request, {}, false)) {
    tell_credit_ = false;
  } else {
    told_consumed_ = told;
  }
}

void VerbsChannel::on_packet(Bytes packet, PacketSink& sink) {
  const auto head = wire::decode_head(packet);
  if (!head) return;
  const wire::Frame& front = head->frame;
  // Consumed is a claim of another process: never more than was sent.
  if (after(front.consumed, peer_consumed_) && !after(front.consumed, next_sequence_ - 1)) {
    peer_consumed_ = front.consumed;
  }
  peer_credit_ = std::max(peer_credit_, front.credit);
  if (head->header.kind == wire::Kind::kCredit) return;
  if (!after(front.sequence, consumed_)) return;  // seen before, over a path that failed
  if (front.sequence != consumed_ + 1) {
    if (front.sequence - consumed_ > kCredits) return;  // more than was granted
    early_.try_emplace(front.sequence, packet.begin(), packet.end());
    return;
  }
  deliver(*head, packet, sink);
  if (!early_.empty()) [[unlikely]]
    transport_.attend_later(*this);
  if (owes_credit()) transport_.attend_later(*this);
}

// What arrived before its turn.
void VerbsChannel::deliver_early(PacketSink& sink) {
  for (auto next = early_.find(consumed_ + 1); next != early_.end();
       next = early_.find(consumed_ + 1)) {
    deliver(*wire::decode_head(next->second), next->second, sink);
    early_.erase(next);
  }
}

// Without memory for what becomes of it the packet has not been consumed: it is delivered again.
void VerbsChannel::deliver(const wire::PacketHead& head, Bytes packet, PacketSink& sink) {
  const std::uint32_t before =
      std::exchange(consumed_, head.frame.sequence);  // before an answer leaves, which tells it
  const Bytes payload = packet.subspan(kHeadBytes);
  try {
    if (assembling_ || (head.header.flags & wire::kContinued) != 0) [[unlikely]] {
      assemble(head.header, payload, sink);
    } else {
      sink.on_packet(peer_, head.header, payload);
    }
  } catch (...) {
    consumed_ = before;
    throw;
  }
}

// What does not continue the payload that was begun ends it: it comes from another process.
void VerbsChannel::assemble(const wire::Header& header, Bytes bytes, PacketSink& sink) {
  const bool more = (header.flags & wire::kContinued) != 0;
  if (header.kind != wire::kContinuation) {
    assembled_.reserve(kPacketsPerPayload * kBytesPerPacket);
    assembled_.clear();
    assembled_header_ = header;
    assembled_header_.flags &= static_cast<std::uint8_t>(~wire::kContinued);
    assembling_ = more;
  }
  if (!assembling_) {  // a whole packet, or a continuation of nothing, which is refused
    sink.on_packet(peer_, header, bytes);
    return;
  }
  if (assembled_.size() + bytes.size() > kPacketsPerPayload * kBytesPerPacket) {
    assembling_ = false;
    return;
  }
  assembled_.insert(assembled_.end(), bytes.begin(), bytes.end());
  if (more) return;
  assembling_ = false;
  assembled_header_.payload_bytes = static_cast<std::uint32_t>(assembled_.size());
  try {
    sink.on_packet(peer_, assembled_header_, assembled_);
  } catch (...) {
    assembling_ = true;
    assembled_.resize(assembled_.size() - bytes.size());
    throw;
  }
}

void VerbsChannel::complete_requests(Connection& connection, std::uint32_t end) {
  for (; connection.completed != end; ++connection.completed) {
    Connection::Request& done = connection.request(connection.completed);
    if (done.packet && &connection == primary_ && after(done.sequence, sent_complete_)) {
      sent_complete_ = done.sequence;
    } else if (done.fragment.read != nullptr) {
      mover_->finish_fragment(connection, done, VerbsMover::Outcome::kDone);
    }
  }
}

void VerbsChannel::on_send_completion(Connection& connection, std::uint32_t request,
                                      Status status) {
  if (status == Status::kSuccess) {
    complete_requests(connection, request + 1);
    Path* path = connection.path;
    if (path != nullptr && path->state == Path::State::kProving) [[unlikely]]
      make_ready(*path);
  } else {
    complete_requests(connection, request);
    Connection::Request& failed = connection.request(request);
    const bool hopeless = status == Status::kRemoteAccess || status == Status::kLocalProtection ||
                          status == Status::kRemoteOperation;
    if (failed.fragment.read != nullptr) {
      using Outcome = VerbsMover::Outcome;
      mover_->finish_fragment(connection, failed, hopeless ? Outcome::kFailed : Outcome::kAgain);
    }
    ++connection.completed;
    if (!connection.failed) {
      note(*connection.path, verbs_driver::status_name(status));
      break_path(*connection.path, now_ns());
    }
  }
  transport_.attend_later(*this);
}

void VerbsChannel::on_closed(Connection& connection) {
  for (; connection.completed != connection.posted; ++connection.completed) {
    Connection::Request& request = connection.request(connection.completed);
    if (request.fragment.read == nullptr) continue;
    mover_->finish_fragment(connection, request, VerbsMover::Outcome::kAgain);
  }
}

void VerbsChannel::attend(PacketSink& sink) {
  if (failed_) return;
  if (!early_.empty()) [[unlikely]]
    deliver_early(sink);
  replay();
  if (primary_ != nullptr && owes_credit()) send_credit();
  if (mover_ != nullptr) mover_->attend(sink);
  if (primary_ == nullptr) return;
  const bool idle = mover_ != nullptr && mover_->has_idle_reads();
  if (posted_sequence_ + 1 != next_sequence_ || owes_credit() || idle) {
    transport_.attend_later(*this);
  }
}

// An RDMA WRITE of no bytes: its completion stands for all before it, and tells that the peer's
// adapter still knows this queue pair, without the peer's process.
bool VerbsChannel::probe(Connection& connection) noexcept {
  SendRequest request;
  request.operation = SendRequest::Operation::kWrite;
  return post(connection, request, {}, true);
}

// Datagrams may have come another way: a port that is up and does not reach the peer would take
// fragments again and again, each until its retries are over.
void VerbsChannel::prove(Path& path) noexcept {
  path.state = Path::State::kProving;
  probe(*path.connection);
}

bool VerbsChannel::drained() {
  if (failed_) return true;
  if (primary_ == nullptr) return peer_consumed_ + 1 == next_sequence_;
  if (posted_sequence_ + 1 != next_sequence_) return false;
  if (primary_->posted == primary_->completed) return true;
  if (primary_->unsignaled != 0) probe(*primary_);
  return false;
}

void VerbsChannel::heartbeat() {
  for (Path& path : paths_) {
    if (path.state != Path::State::kReady && path.state != Path::State::kProving) continue;
    Connection& connection = *path.connection;
    if (connection.completed == connection.seen_completed) {
      if (connection.room() == 0) {
        note(path, "completions are missing");
        break_path(path, now_ns());
        continue;
      }
      probe(connection);
    }
    if (path.connection != nullptr) connection.seen_completed = connection.completed;
  }
}

}  // namespace mooncake_mpi::verbs
