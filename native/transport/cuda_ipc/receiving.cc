// The receiver's part of a message between GPUs: it asks for the push, or pulls. Engine lock held.
#include <algorithm>
#include <new>
#include <utility>

#include "base/clock.h"
#include "transport/cuda_ipc/mover.h"
#include "transport/cuda_ipc/mover_parts.h"

namespace mooncake_mpi::cuda_ipc {
namespace {

constexpr std::string_view kNotExportable =
    "the memory that is received into cannot be opened by another process (of cudaMallocAsync, or "
    "of torch's expandable_segments)";

}  // namespace

bool CudaMover::start_read(const Move& into, Bytes key, PacketSink& sink) {
  if (into.sink == nullptr || !wire::is_on_device(key)) return false;
  Receive receive;
  receive.peer_id = into.peer_id;
  receive.bytes = into.bytes;
  if (waits_with_work(into.device)) {
    const auto& stream = *static_cast<const cuda::StreamSink*>(into.sink);
    const cuda::Turn& turn = stream.turn();
    receive.engines_first = turn.engines_first && (is_self_ || turn.allocation.exportable);
    if (is_self_ && !receive.engines_first) return false;
    receive.work = turn.work;
    receive.array = turn.array;
    receive.device = turn.device;
    receive.end = &stream.end();
  } else if (memory_of(into.device) != nullptr) {
    const cuda::DeviceEnd& end = static_cast<const cuda::DeviceSink*>(into.sink)->end();
    if (!is_self_ && !end.allocation.exportable) {
      sink.on_detour(peer_, into.bytes, kNotExportable);
      return false;
    }
    receive.end = &end;
    receive.device = end.allocation.device;
  } else {
    return false;
  }
  try {
    make_room(starting_, starting_.size() + 1);
    make_room(over_, receives_.size() + 1);  // what ends a receive does not allocate
    receives_.insert_or_assign(into.id, std::move(receive));
    starting_.push_back(into.id);
  } catch (const std::bad_alloc&) {
    return false;
  }
  attend();
  try {  // at once, where nothing has to be waited for
    if (advance(into.id, receives_.find(into.id)->second, sink) == Step::kDone) {
      starting_.pop_back();
    }
  } catch (const std::bad_alloc&) {  // later
  }
  return true;
}

// A stream of the program has come to wait for the message.
bool CudaMover::redirect(std::uint64_t id, Sink& sink) noexcept {
  const auto found = receives_.find(id);
  if (is_self_ || found == receives_.end() || found->second.work != nullptr) return false;
  const auto& stream = static_cast<const cuda::StreamSink&>(sink);
  Receive& receive = found->second;
  receive.work = stream.turn().work;
  receive.engines_first = true;
  receive.array = stream.turn().array;
  receive.end = &stream.end();
  return true;
}

CudaMover::Step CudaMover::advance(std::uint64_t id, Receive& receive, PacketSink& sink) {
  if (receive.state == Receive::State::kPulling) {
    const bool by_stream = receive.work != nullptr && receive.copy == nullptr;
    return by_stream ? pull_in_stream(id, receive, sink) : pull(id, receive, sink);
  }
  if (receive.work != nullptr && !receive.engines_first) {
    if (receive.work->refused()) {
      over_.push_back({id, true});
      return Step::kDone;
    }
    if (!receive.work->claimed()) return Step::kNotYet;
    wire::Reveal reveal;
    reveal.receive_id = id;
    reveal.length = receive.bytes;
    sink.send_note(peer_, lane(), receive.peer_id, bytes_of(reveal));
    receive.state = Receive::State::kAsked;
    return Step::kDone;
  }
  if (receive.state == Receive::State::kWaiting) {
    if (!receive.end->is_ready()) {
      const int device = receive.end->allocation.device;
      if (!cuda::known_gpu_memory()->queue().has_failed(device)) return Step::kNotYet;
      over_.push_back({id, true});
      return Step::kDone;
    }
    receive.exported = export_of(receive.end->allocation);
    receive.opens_until_ns = now_ns() + kLongestOpeningNs;
    receive.state = Receive::State::kExporting;
  }
  if (!receive.exported->done.load(std::memory_order_acquire)) {
    // Perhaps the driver waits for the stream that waits for the message.
    if (receive.work == nullptr || now_ns() < receive.opens_until_ns) return Step::kNotYet;
    over_.push_back({id, true});
    return Step::kDone;
  }
  if (receive.exported->refused) {
    sink.on_detour(peer_, receive.bytes, receive.exported->refusal);
    over_.push_back({id, true});
  } else {
    ask(id, receive, sink);
    receive.state = Receive::State::kAsked;
  }
  return Step::kDone;
}

void CudaMover::ask(std::uint64_t id, Receive& receive, PacketSink& sink) {
  Export& exported = *receive.exported;
  tell_of(exported, receive.peer_id, sink);
  wire::Push push;
  push.receive_id = id;
  push.allocation = exported.memory.allocation;
  push.offset = receive.end->address - exported.memory.base;
  push.length = receive.bytes;
  sink.send_note(peer_, lane(), receive.peer_id, bytes_of(push));
}

// Where this process's engines may be held up, too, the sender's have to do.
bool CudaMover::begin_pull(const Move& local, const wire::Pull& pull, PacketSink& sink) {
  const auto found = receives_.find(local.id);
  if (found == receives_.end() || found->second.state != Receive::State::kAsked) return false;
  Receive& receive = found->second;
  if (pull.length != receive.bytes ||
      !peer_memory_.has(pull.allocation, pull.offset, pull.length)) {
    return false;
  }
  cuda::GpuMemory& memory = *cuda::known_gpu_memory();
  const bool has_to_wait = receive.work != nullptr
                               ? receive.engines_first && !receive.work->is_next()
                               : memory.gates().some_closed();
  if (has_to_wait) {
    finish(receive.peer_id, true, sink);
    return true;
  }
  make_room(starting_, starting_.size() + 1);
  receive.mapping = peer_memory_.map(pull.allocation, receive.device, memory, transport_.opener_);
  receive.opens_until_ns = now_ns() + kLongestOpeningNs;
  receive.offset = pull.offset;
  receive.state = Receive::State::kPulling;
  starting_.push_back(local.id);
  attend();
  return true;
}

// By the stream that waits for the message. Where the peer's memory is not opened, perhaps because
// the driver waits for that stream, the bytes come by way of the host.
CudaMover::Step CudaMover::pull_in_stream(std::uint64_t id, Receive& receive, PacketSink& sink) {
  if (receive.mapping->state() == Mapping::State::kOpening && now_ns() < receive.opens_until_ns) {
    return Step::kNotYet;
  }
  if (receive.mapping->state() != Mapping::State::kOpen) {
    end_pull(id, receive, true, sink);
    return Step::kDone;
  }
  if (!receive.takes && receive.work->refused()) {
    end_pull(id, receive, true, sink);
    return Step::kDone;
  }
  if (!receive.work->claimed()) return Step::kNotYet;
  if (!receive.takes) {
    constexpr bool kHeard = true;
    const cuda::Order order{.to = receive.array,
                            .from = receive.mapping->base() + receive.offset,
                            .bytes = receive.bytes};
    if (!receive.work->order(order, kHeard)) {  // the receive was ended
      end_pull(id, receive, true, sink);
      return Step::kDone;
    }
    receive.takes = true;
  }
  const bool failed = cuda::known_gpu_memory()->queue().has_failed(receive.device);
  if (!receive.work->done() && !failed) return Step::kNotYet;
  end_pull(id, receive, failed, sink);
  return Step::kDone;
}

void CudaMover::end_pull(std::uint64_t id, Receive& receive, bool failed, PacketSink& sink) {
  receive.mapping.reset();
  if (!failed) sink.on_path(id, TransferPath::kKernel);
  finish(receive.peer_id, failed, sink);
  over_.push_back({id, failed});
}

void CudaMover::drop(Receive& receive) noexcept {
  if (receive.takes) give_up(*receive.work, std::move(receive.mapping));
  if (receive.copy != nullptr) give_up(*receive.copy, std::move(receive.mapping));
}

CudaMover::Step CudaMover::pull(std::uint64_t id, Receive& receive, PacketSink& sink) {
  if (receive.mapping->state() == Mapping::State::kOpening) return Step::kNotYet;
  const bool open = receive.mapping->state() == Mapping::State::kOpen;
  if (open && receive.copy == nullptr) {
    receive.copy =
        cuda::known_gpu_memory()->queue().submit({.kind = cuda::Copy::Kind::kPull,
                                                  .device = receive.end->allocation.device,
                                                  .to = receive.end->address,
                                                  .from = receive.mapping->base() + receive.offset,
                                                  .bytes = receive.bytes,
                                                  .after = nullptr});
  }
  if (open && !receive.copy->over()) return Step::kNotYet;
  const bool failed = !open || receive.copy->failed();
  receive.copy.reset();
  receive.mapping.reset();
  finish(receive.peer_id, failed, sink);
  if (failed) {
    receive.state = Receive::State::kAsked;  // it is pushed after all
  } else {
    sink.on_path(id, TransferPath::kPull);
    over_.push_back({id, false});
  }
  return Step::kDone;
}

void CudaMover::advance_receives(PacketSink& sink) {
  for (std::uint64_t& id : starting_) {
    const auto receive = receives_.find(id);
    if (receive != receives_.end() && advance(id, receive->second, sink) == Step::kNotYet) continue;
    id = kNobody;
  }
  std::erase(starting_, kNobody);
}

}  // namespace mooncake_mpi::cuda_ipc
