#include "transport/cuda_ipc/mover.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace mooncake_mpi::cuda_ipc {
namespace {

template <class Layout>
Bytes bytes_of(const Layout& layout) noexcept {
  return std::as_bytes(std::span(&layout, 1));
}

constexpr std::string_view kNotExportable =
    "the memory that is received into cannot be opened by another process (of cudaMallocAsync, or "
    "of torch's expandable_segments)";

constexpr std::uint64_t kNobody = UINT64_MAX;

// As push_back() does it: not for one at a time.
template <class T>
void make_room(std::vector<T>& vector, std::size_t count) {
  if (vector.capacity() < count) vector.reserve(2 * count);
}

cuda::GpuMemory* memory_of(const MemoryDevice* device) noexcept {
  cuda::GpuMemory* memory = cuda::known_gpu_memory();
  return device != nullptr && device == memory ? memory : nullptr;
}

}  // namespace

CudaMover::CudaMover(CudaIpcTransport& transport, Peer& peer, bool is_self)
    : transport_(transport), peer_(peer), is_self_(is_self) {
  transport_.movers_.push_back(this);
}

CudaMover::~CudaMover() {
  abandon();
  std::erase(transport_.movers_, this);
  std::erase(transport_.busy_, this);
}

void CudaMover::attend() {
  if (busy_) return;
  busy_ = true;
  transport_.busy_.push_back(this);  // there is room for every mover
}

bool CudaMover::rest() noexcept {
  busy_ = !receives_.empty() || !sends_.empty() || !stopped_.empty();
  return !busy_;
}

Answer CudaMover::expose(const Buffer& buffer, Access access, Exposure& exposure) noexcept {
  if (access != Access::kRead || memory_of(buffer.device) == nullptr) return Answer::kNo;
  const wire::OnDevice key;
  std::memcpy(exposure.key.data(), &key, sizeof key);
  exposure.key_bytes = sizeof key;
  return Answer::kYes;
}

// --- the receiver ---

bool CudaMover::start_read(const Move& into, Bytes key, PacketSink& sink) {
  if (memory_of(into.device) == nullptr || into.sink == nullptr || !wire::is_on_device(key)) {
    return false;
  }
  const cuda::DeviceEnd& end = static_cast<const cuda::DeviceSink*>(into.sink)->end();
  if (!is_self_ && !end.allocation.exportable) {
    sink.on_detour(peer_, into.bytes, kNotExportable);
    return false;
  }
  try {
    Receive receive;
    receive.peer_id = into.peer_id;
    receive.bytes = into.bytes;
    receive.end = &end;
    make_room(starting_, starting_.size() + 1);
    make_room(over_, receives_.size() + 1);  // what ends a receive does not allocate
    receives_.insert_or_assign(into.id, std::move(receive));
    starting_.push_back(into.id);
  } catch (const std::bad_alloc&) {
    return false;
  }
  attend();
  return true;
}

std::shared_ptr<CudaMover::Export> CudaMover::export_of(const cuda_driver::Allocation& allocation) {
  auto& exported = exports_[allocation.id];
  if (exported != nullptr) return exported;
  // What lay there before has been freed.
  std::erase_if(exports_, [&](const auto& other) {
    if (other.first == allocation.id || other.second == nullptr) return false;
    const wire::DeviceMemory& memory = other.second->memory;
    return memory.base < allocation.base + allocation.bytes &&
           allocation.base < memory.base + memory.bytes;
  });
  auto made = std::make_shared<Export>();
  made->memory.allocation = allocation.id;
  made->memory.base = allocation.base;
  made->memory.bytes = allocation.bytes;
  if (is_self_) {
    made->done.store(true, std::memory_order_release);
  } else {
    cuda::GpuMemory& memory = *cuda::known_gpu_memory();
    memory.queue().defer([&memory, made, device = allocation.device] {
      auto handle = memory.driver().export_memory(device, made->memory.base);
      if (handle) made->memory.handle = handle.value();
      made->refused = !handle;
      if (!handle) made->refusal = handle.failure().message;
      made->done.store(true, std::memory_order_release);
    });
  }
  exported = std::move(made);  // it was ordered: there was memory for that
  return exported;
}

CudaMover::Step CudaMover::advance(std::uint64_t id, Receive& receive, PacketSink& sink) {
  if (receive.state == Receive::State::kPulling) return pull(id, receive, sink);
  if (receive.state == Receive::State::kWaiting) {
    if (!receive.end->is_ready()) {
      const int device = receive.end->allocation.device;
      if (!cuda::known_gpu_memory()->queue().has_failed(device)) return Step::kNotYet;
      over_.push_back({id, true});
      return Step::kDone;
    }
    receive.exported = export_of(receive.end->allocation);
    receive.state = Receive::State::kExporting;
  }
  if (!receive.exported->done.load(std::memory_order_acquire)) return Step::kNotYet;
  if (receive.exported->refused) {
    sink.on_detour(peer_, receive.bytes, receive.exported->refusal);
    over_.push_back({id, true});
  } else {
    ask(id, receive, sink);
    receive.state = Receive::State::kAsked;
  }
  return Step::kDone;
}

void CudaMover::tell_of(Export& exported, std::uint64_t peer_id, PacketSink& sink) {
  if (exported.told) return;
  exported.told = true;
  sink.send_note(peer_, lane(), peer_id, bytes_of(exported.memory));
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
  if (memory.gates().some_closed()) {
    finish(receive.peer_id, true, sink);
    return true;
  }
  make_room(starting_, starting_.size() + 1);
  receive.mapping =
      peer_memory_.map(pull.allocation, receive.end->allocation.device, memory, transport_.opener_);
  receive.offset = pull.offset;
  receive.state = Receive::State::kPulling;
  starting_.push_back(local.id);
  attend();
  return true;
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
    over_.push_back({id, false});
  }
  return Step::kDone;
}

// --- the sender ---

bool CudaMover::on_note(const Move& local, Bytes note, PacketSink& sink) {
  if (const auto pushed = wire::decode_pushed(note)) {
    return end_of_copy(local, pushed->failed != 0);
  }
  if (const auto pull = wire::decode_pull(note)) return begin_pull(local, *pull, sink);
  if (const auto memory = wire::decode_device_memory(note)) {
    peer_memory_.learn(*memory);
    return true;
  }
  const auto push = wire::decode_push(note);
  if (!push) return false;
  if (memory_of(local.device) == nullptr || local.source == nullptr) {
    // The sender has left its call, and the bytes are elsewhere: the receiver is to ask again.
    finish(push->receive_id, true, sink);
    return true;
  }
  if (push->length > local.bytes ||
      !peer_memory_.has(push->allocation, push->offset, push->length) ||
      sends_.contains(local.id)) {
    return false;
  }
  Send send;
  send.peer_id = push->receive_id;
  send.bytes = push->length;
  send.end = &static_cast<const cuda::DeviceSource*>(local.source)->end();
  send.offset = push->offset;
  send.allocation = push->allocation;
  if (!is_self_) {
    send.mapping = peer_memory_.map(push->allocation, send.end->allocation.device,
                                    *cuda::known_gpu_memory(), transport_.opener_);
  }
  make_room(stopped_, stopped_.size() + sends_.size() + 1);  // stop() does not allocate
  sending_.push_back(local.id);
  sends_.insert_or_assign(local.id, std::move(send));
  attend();
  return true;
}

// The peer's word of a copy: of one that its engine was to make, or that it gives up.
bool CudaMover::end_of_copy(const Move& local, bool failed) {
  if (const auto send = sends_.find(local.id); send != sends_.end()) {
    if (send->second.pull != Send::Pull::kOffered) return false;
    if (failed) {
      send->second.pull = Send::Pull::kRefused;
    } else {
      sends_.erase(send);  // until FIN
    }
    return true;
  }
  const auto receive = receives_.find(local.id);
  if (receive == receives_.end()) return false;
  const bool pulled = receive->second.state == Receive::State::kPulling;
  if (!pulled && receive->second.state != Receive::State::kAsked) return false;
  if (pulled) {  // the sender takes its memory back
    if (!failed) return false;
    if (receive->second.copy != nullptr) {
      cuda::known_gpu_memory()->queue().drop(*receive->second.copy);
    }
    std::erase(starting_, local.id);
  }
  receive->second.state = Receive::State::kWaiting;  // no second answer
  over_.push_back({local.id, failed});
  return true;
}

// Whether the receiver has the message, or is to take it: nothing is to be pushed now.
bool CudaMover::offer_pull(Send& send, PacketSink& sink) {
  if (send.pull != Send::Pull::kPossible) return send.pull == Send::Pull::kOffered;
  const cuda::DeviceEnd& end = *send.end;
  const cuda::GpuMemory& memory = *cuda::known_gpu_memory();
  if (is_self_ || !end.allocation.exportable || !memory.gates().some_closed()) return false;
  if (send.exported == nullptr) send.exported = export_of(end.allocation);
  if (!send.exported->done.load(std::memory_order_acquire)) return true;
  if (send.exported->refused) {
    send.pull = Send::Pull::kRefused;
    return false;
  }
  send.pull = Send::Pull::kOffered;
  tell_of(*send.exported, send.peer_id, sink);
  wire::Pull pull;
  pull.allocation = send.exported->memory.allocation;
  pull.offset = end.address - send.exported->memory.base;
  pull.length = send.bytes;
  sink.send_note(peer_, lane(), send.peer_id, bytes_of(pull));
  return true;
}

CudaMover::Step CudaMover::advance(Send& send, PacketSink& sink) {
  if (send.copy != nullptr) {
    if (!send.copy->over()) return Step::kNotYet;
    finish(send.peer_id, send.copy->failed(), sink);
    return Step::kDone;
  }
  // What is given to an engine begins at once, before a stream may come to wait.
  cuda::GpuMemory& memory = *cuda::known_gpu_memory();
  if (!send.end->is_ready() && !memory.queue().has_failed(send.end->allocation.device)) {
    return Step::kNotYet;
  }
  if (offer_pull(send, sink)) return Step::kNotYet;
  if (send.mapping != nullptr && send.mapping->state() == Mapping::State::kOpening) {
    return Step::kNotYet;
  }
  if (send.mapping != nullptr && send.mapping->state() == Mapping::State::kRefused) {
    sink.on_detour(peer_, send.bytes, send.mapping->refusal());
    finish(send.peer_id, true, sink);
    return Step::kDone;
  }
  submit(send, is_self_ ? peer_memory_.base_of(send.allocation) : send.mapping->base());
  return Step::kNotYet;
}

void CudaMover::submit(Send& send, cuda_driver::DeviceAddress base) {
  send.copy = cuda::known_gpu_memory()->queue().submit({.kind = cuda::Copy::Kind::kPush,
                                                        .device = send.end->allocation.device,
                                                        .to = base + send.offset,
                                                        .from = send.end->address,
                                                        .bytes = send.bytes,
                                                        .after = send.end->ready});
}

void CudaMover::finish(std::uint64_t receive_id, bool failed, PacketSink& sink) {
  wire::Pushed pushed;
  pushed.failed = failed ? 1 : 0;
  sink.send_note(peer_, lane(), receive_id, bytes_of(pushed));
}

// --- both ---

unsigned CudaMover::advance(PacketSink& sink) {
  auto worked = static_cast<unsigned>(stopped_.size());
  for (const std::uint64_t receive_id : stopped_)
    finish(receive_id, true, sink);
  stopped_.clear();
  const auto begun = static_cast<unsigned>(sending_.size() + starting_.size() + over_.size());
  for (std::uint64_t& id : sending_) {
    const auto send = sends_.find(id);
    if (send != sends_.end() && advance(send->second, sink) == Step::kNotYet) continue;
    if (send != sends_.end()) sends_.erase(send);
    id = kNobody;
  }
  std::erase(sending_, kNobody);
  for (std::uint64_t& id : starting_) {
    const auto receive = receives_.find(id);
    if (receive != receives_.end() && advance(id, receive->second, sink) == Step::kNotYet) continue;
    id = kNobody;
  }
  std::erase(starting_, kNobody);
  // Telling of one may begin others.
  while (!over_.empty()) {
    const Over over = over_.back();
    over_.pop_back();
    receives_.erase(over.id);
    sink.on_moved(peer_, over.id, over.failed ? Error::kOther : Error::kNone);
    ++worked;
  }
  const auto left = static_cast<unsigned>(sending_.size() + starting_.size());
  return worked + (begun > left ? begun - left : 0);
}

void CudaMover::drop(Send& send) noexcept {
  if (send.copy != nullptr) cuda::known_gpu_memory()->queue().drop(*send.copy);
}

void CudaMover::stop(std::uint64_t id) noexcept {
  const auto send = sends_.find(id);
  if (send == sends_.end()) return;
  drop(send->second);
  stopped_.push_back(send->second.peer_id);
  sends_.erase(send);
}

void CudaMover::abandon() noexcept {
  for (auto& [id, send] : sends_)
    drop(send);
  for (auto& [id, receive] : receives_) {
    if (receive.copy != nullptr) cuda::known_gpu_memory()->queue().drop(*receive.copy);
  }
  sends_.clear();
  sending_.clear();
  stopped_.clear();
  receives_.clear();
  starting_.clear();
  over_.clear();
}

}  // namespace mooncake_mpi::cuda_ipc
