// The sender's part of a message between GPUs: its copy engine pushes, or it offers to be pulled
// from. Engine lock held.
#include <deque>
#include <new>
#include <utility>

#include "base/clock.h"
#include "transport/cuda_ipc/mover.h"
#include "transport/cuda_ipc/mover_parts.h"

namespace mooncake_mpi::cuda_ipc {

bool CudaMover::on_note(const Move& local, Bytes note, PacketSink& sink) {
  if (const auto pushed = wire::decode_pushed(note)) {
    return end_of_copy(local, *pushed, sink);
  }
  if (const auto pull = wire::decode_pull(note)) return begin_pull(local, *pull, sink);
  if (const auto memory = wire::decode_device_memory(note)) {
    peer_memory_.learn(*memory);
    return true;
  }
  return on_ask(local, note, sink);
}

// The receiver asks for the bytes, to be brought to it or to be taken by a stream of its own.
bool CudaMover::on_ask(const Move& local, Bytes note, PacketSink& sink) {
  const auto push = wire::decode_push(note);
  const auto reveal = wire::decode_reveal(note);
  if (!push && !reveal) return false;
  Send send;
  send.peer_id = push ? push->receive_id : reveal->receive_id;
  send.bytes = push ? push->length : reveal->length;
  send.revealed = reveal.has_value();
  if (local.source != nullptr && waits_with_work(local.device)) {
    const auto& source = *static_cast<const cuda::StreamSource*>(local.source);
    send.end = &source.end();
    send.work = source.turn().work;
  } else if (local.source != nullptr && memory_of(local.device) != nullptr) {
    send.end = &static_cast<const cuda::DeviceSource*>(local.source)->end();
  } else {
    // The sender has left its call, and the bytes are elsewhere: the receiver is to ask again.
    finish(send.peer_id, true, sink);
    return true;
  }
  if (send.bytes > local.bytes || sends_.contains(local.id)) return false;
  if (push) {
    if (!peer_memory_.has(push->allocation, push->offset, push->length)) return false;
    send.offset = push->offset;
    send.allocation = push->allocation;
    send.opens_until_ns = now_ns() + kLongestOpeningNs;
    if (!is_self_) {
      send.mapping = peer_memory_.map(push->allocation, send.end->allocation.device,
                                      *cuda::known_gpu_memory(), transport_.opener_);
    }
  }
  make_room(stopped_, stopped_.size() + sends_.size() + 1);  // stop() does not allocate
  sending_.push_back(local.id);
  const auto placed = sends_.insert_or_assign(local.id, std::move(send)).first;
  attend();
  try {  // at once, where nothing has to be waited for
    if (advance(local.id, placed->second, sink) == Step::kDone) sending_.pop_back();
  } catch (const std::bad_alloc&) {  // later: the protocol has to hear that the send is known here
  }
  return true;
}

// The peer's word of a copy: of one that its engine was to make, or that it gives up.
bool CudaMover::end_of_copy(const Move& local, const wire::Pushed& pushed, PacketSink& sink) {
  const bool failed = pushed.outcome == wire::Pushed::kFailed;
  if (const auto send = sends_.find(local.id); send != sends_.end()) {
    if (send->second.pull != Send::Pull::kOffered) return false;
    if (failed && !send->second.revealed) {
      send->second.pull = Send::Pull::kRefused;
    } else {
      const TransferPath path = send->second.revealed ? TransferPath::kKernel : TransferPath::kPull;
      if (!failed) sink.on_path(local.id, path);
      sends_.erase(send);  // until FIN, or until it is asked again
    }
    return true;
  }
  const auto receive = receives_.find(local.id);
  if (receive == receives_.end()) return false;
  const bool pulled = receive->second.state == Receive::State::kPulling;
  const bool asked_to_push = receive->second.work == nullptr || receive->second.engines_first;
  if (!asked_to_push && !failed) return false;
  if (!pulled && receive->second.state != Receive::State::kAsked) return false;
  if (pulled) {  // the sender takes its memory back
    if (!failed) return false;
    drop(receive->second);
    std::erase(starting_, local.id);
  }
  if (pushed.outcome == wire::Pushed::kByKernel) sink.on_path(local.id, TransferPath::kKernel);
  receive->second.state = Receive::State::kWaiting;  // no second answer
  over_.push_back({local.id, failed});
  return true;
}

// Whether the receiver has the message, or is to take it: nothing is to be pushed now.
bool CudaMover::offer_pull(Send& send, PacketSink& sink) {
  if (send.pull != Send::Pull::kPossible) return send.pull == Send::Pull::kOffered;
  const cuda::DeviceEnd& end = *send.end;
  const cuda::GpuMemory& memory = *cuda::known_gpu_memory();
  if (is_self_ || !end.allocation.exportable) return false;
  if (!send.revealed && !memory.gates().some_closed()) return false;
  if (send.exported == nullptr) send.exported = export_of(end.allocation);
  if (!send.exported->done.load(std::memory_order_acquire)) return true;
  if (send.exported->refused) {
    send.pull = Send::Pull::kRefused;
    return false;
  }
  tell_where(send, sink);
  return true;
}

void CudaMover::tell_where(Send& send, PacketSink& sink) {
  send.pull = Send::Pull::kOffered;
  tell_of(*send.exported, send.peer_id, sink);
  wire::Pull pull;
  pull.allocation = send.exported->memory.allocation;
  pull.offset = send.end->address - send.exported->memory.base;
  pull.length = send.bytes;
  sink.send_note(peer_, lane(), send.peer_id, bytes_of(pull));
}

// Done with when its copy was submitted, too: then copying_ has it.
CudaMover::Step CudaMover::advance(std::uint64_t id, Send& send, PacketSink& sink) {
  // What is given to an engine begins at once, before a stream may come to wait.
  cuda::GpuMemory& memory = *cuda::known_gpu_memory();
  if (!send.end->is_ready() && !memory.queue().has_failed(send.end->allocation.device)) {
    return Step::kNotYet;
  }
  if (send.work != nullptr &&
      (send.work->refused() || memory.queue().has_failed(send.end->allocation.device))) {
    finish(send.peer_id, true, sink);
    sends_.erase(id);
    return Step::kDone;
  }
  // A stream that waits stands ready before anything else is done with its message.
  if (send.work != nullptr && !send.work->claimed()) return Step::kNotYet;
  if (offer_pull(send, sink)) return Step::kNotYet;
  if (send.revealed) {  // it cannot be opened
    finish(send.peer_id, true, sink);
    sends_.erase(id);
    return Step::kDone;
  }
  if (send.mapping != nullptr && send.mapping->state() == Mapping::State::kOpening) {
    // Perhaps the driver waits for the stream that the message is to end the wait of.
    if (send.work == nullptr || now_ns() < send.opens_until_ns) return Step::kNotYet;
    finish(send.peer_id, true, sink);
    sends_.erase(id);
    return Step::kDone;
  }
  if (send.mapping != nullptr && send.mapping->state() == Mapping::State::kRefused) {
    sink.on_detour(peer_, send.bytes, send.mapping->refusal());
    finish(send.peer_id, true, sink);
    sends_.erase(id);
    return Step::kDone;
  }
  if (send.work != nullptr) return bring_in_stream(id, send, sink);
  submit(id, send, is_self_ ? peer_memory_.base_of(send.allocation) : send.mapping->base());
  return Step::kDone;
}

// By the stream that waits for the message to be taken.
CudaMover::Step CudaMover::bring_in_stream(std::uint64_t id, Send& send, PacketSink& sink) {
  if (!send.brings) {
    constexpr bool kHeard = true;
    const cuda::Order order{
        .to = send.mapping->base() + send.offset, .from = send.end->address, .bytes = send.bytes};
    if (!send.work->order(order, kHeard)) {  // it has been told something else
      finish(send.peer_id, true, sink);
      sends_.erase(id);
      return Step::kDone;
    }
    send.brings = true;
  }
  if (!send.work->done()) return Step::kNotYet;
  sink.on_path(id, TransferPath::kKernel);
  finish(send.peer_id, wire::Pushed::kByKernel, sink);
  sends_.erase(id);
  return Step::kDone;
}

void CudaMover::submit(std::uint64_t id, Send& send, cuda_driver::DeviceAddress base) {
  // First, for there may be no memory for that; what has no copy is passed over.
  copying_[send.end->allocation.device].push_back(id);
  send.submitted_ns = now_ns();
  send.copy = cuda::known_gpu_memory()->queue().submit({.kind = cuda::Copy::Kind::kPush,
                                                        .device = send.end->allocation.device,
                                                        .to = base + send.offset,
                                                        .from = send.end->address,
                                                        .bytes = send.bytes,
                                                        .after = send.end->ready,
                                                        .reachable = send.mapping != nullptr});
}

void CudaMover::advance_sends(PacketSink& sink) {
  for (std::uint64_t& id : sending_) {
    const auto send = sends_.find(id);
    if (send != sends_.end() && advance(id, send->second, sink) == Step::kNotYet) continue;
    id = kNobody;
  }
  std::erase(sending_, kNobody);
  for (auto& [device, copying] : copying_) {
    for (; !copying.empty(); copying.pop_front()) {
      const auto send = sends_.find(copying.front());
      if (send == sends_.end() || send->second.copy == nullptr) continue;
      if (!send->second.copy->over()) break;
      finish(send->second.peer_id, send->second.copy->failed(), sink);
      sends_.erase(send);
    }
  }
  offer_again();
}

// Streams that wait hold up all that this process's engine has: perhaps that one of the receiver's
// which is to take the message has come to it, or its engine may pull by now.
void CudaMover::offer_again() {
  constexpr std::uint64_t kLongNs = 1'000'000;
  if (is_self_ || copying_.empty()) return;
  cuda::GpuMemory& memory = *cuda::known_gpu_memory();
  if (!memory.gates().some_closed()) return;
  const std::uint64_t now = now_ns();
  make_room(sending_, sending_.size() + sends_.size());
  for (auto& [device, copying] : copying_) {
    std::erase_if(copying, [&](std::uint64_t id) {
      const auto found = sends_.find(id);
      if (found == sends_.end() || found->second.copy == nullptr) return false;
      Send& send = found->second;
      const bool refused = send.exported != nullptr &&
                           send.exported->done.load(std::memory_order_acquire) &&
                           send.exported->refused;
      if (refused || !send.end->allocation.exportable || now - send.submitted_ns < kLongNs) {
        return false;
      }
      if (!memory.queue().withdraw(*send.copy)) return false;
      send.copy.reset();
      send.pull = Send::Pull::kPossible;
      sending_.push_back(id);
      return true;
    });
  }
}

void CudaMover::drop(Send& send) noexcept {
  if (send.brings && send.mapping != nullptr) give_up(*send.work, std::move(send.mapping));
  if (send.copy != nullptr) give_up(*send.copy, std::move(send.mapping));
}

void CudaMover::stop(std::uint64_t id) noexcept {
  const auto send = sends_.find(id);
  if (send == sends_.end()) return;
  drop(send->second);
  stopped_.push_back(send->second.peer_id);
  sends_.erase(send);
}

}  // namespace mooncake_mpi::cuda_ipc
