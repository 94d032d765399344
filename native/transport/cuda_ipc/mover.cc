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
    receive.id = into.id;
    receive.peer_id = into.peer_id;
    receive.bytes = into.bytes;
    receive.end = &end;
    receives_.push_back(std::move(receive));
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

// True when there was something to do.
bool CudaMover::advance(Receive& receive, PacketSink& sink) {
  switch (receive.state) {
    case Receive::State::kWaiting:
      if (!receive.end->is_ready()) {
        receive.failed =
            cuda::known_gpu_memory()->queue().has_failed(receive.end->allocation.device);
        if (receive.failed) receive.state = Receive::State::kOver;
        return receive.failed;
      }
      receive.exported = export_of(receive.end->allocation);
      receive.state = Receive::State::kExporting;
      [[fallthrough]];
    case Receive::State::kExporting:
      if (!receive.exported->done.load(std::memory_order_acquire)) return false;
      if (receive.exported->refused) {
        sink.on_detour(peer_, receive.bytes, receive.exported->refusal);
        receive.failed = true;
        receive.state = Receive::State::kOver;
      } else {
        ask(receive, sink);
        receive.state = Receive::State::kAsked;
      }
      return true;
    case Receive::State::kAsked:
    case Receive::State::kOver:
      return false;
  }
  return false;
}

void CudaMover::ask(Receive& receive, PacketSink& sink) {
  Export& exported = *receive.exported;
  if (!exported.told) {
    exported.told = true;
    sink.send_note(peer_, lane(), receive.peer_id, bytes_of(exported.memory));
  }
  wire::Push push;
  push.receive_id = receive.id;
  push.allocation = exported.memory.allocation;
  push.offset = receive.end->address - exported.memory.base;
  push.length = receive.bytes;
  sink.send_note(peer_, lane(), receive.peer_id, bytes_of(push));
}

// --- the sender ---

bool CudaMover::on_note(const Move& local, Bytes note, PacketSink& sink) {
  if (const auto pushed = wire::decode_pushed(note)) {
    const auto receive = std::ranges::find(receives_, local.id, &Receive::id);
    if (receive == receives_.end() || receive->state != Receive::State::kAsked) return false;
    receive->failed = pushed->failed != 0;
    receive->state = Receive::State::kOver;
    return true;
  }
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
      std::ranges::find(sends_, local.id, &Send::id) != sends_.end()) {
    return false;
  }
  Send send;
  send.id = local.id;
  send.peer_id = push->receive_id;
  send.bytes = push->length;
  send.end = &static_cast<const cuda::DeviceSource*>(local.source)->end();
  send.offset = push->offset;
  send.allocation = push->allocation;
  if (!is_self_) {
    send.mapping = peer_memory_.map(push->allocation, send.end->allocation.device,
                                    *cuda::known_gpu_memory(), transport_.opener_);
  }
  stopped_.reserve(stopped_.size() + sends_.size() + 1);  // stop() does not allocate
  sends_.push_back(std::move(send));
  attend();
  return true;
}

// True when there was something to do.
bool CudaMover::advance(Send& send, PacketSink& sink) {
  if (send.copy != nullptr) {
    if (!send.copy->over()) return false;
    finish(send.peer_id, send.copy->failed(), sink);
    send.over = true;
    return true;
  }
  if (send.mapping != nullptr && send.mapping->state() == Mapping::State::kOpening) return false;
  if (send.mapping != nullptr && send.mapping->state() == Mapping::State::kRefused) {
    sink.on_detour(peer_, send.bytes, send.mapping->refusal());
    finish(send.peer_id, true, sink);
    send.over = true;
    return true;
  }
  submit(send, is_self_ ? peer_memory_.base_of(send.allocation) : send.mapping->base());
  return true;
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
  for (Send& send : sends_)
    worked += advance(send, sink) ? 1 : 0;
  std::erase_if(sends_, [](const Send& send) { return send.over; });
  for (Receive& receive : receives_)
    worked += advance(receive, sink) ? 1 : 0;
  // Telling of one may begin another.
  for (std::size_t i = 0; i < receives_.size();) {
    if (receives_[i].state != Receive::State::kOver) {
      ++i;
      continue;
    }
    const Receive over = std::move(receives_[i]);
    receives_.erase(receives_.begin() + static_cast<std::ptrdiff_t>(i));
    sink.on_moved(peer_, over.id, over.failed ? Error::kOther : Error::kNone);
  }
  return worked;
}

void CudaMover::drop(Send& send) noexcept {
  if (send.copy != nullptr) cuda::known_gpu_memory()->queue().drop(*send.copy);
}

void CudaMover::stop(std::uint64_t id) noexcept {
  const auto send = std::ranges::find(sends_, id, &Send::id);
  if (send == sends_.end()) return;
  drop(*send);
  stopped_.push_back(send->peer_id);
  sends_.erase(send);
}

void CudaMover::abandon() noexcept {
  for (Send& send : sends_)
    drop(send);
  sends_.clear();
  stopped_.clear();
  receives_.clear();
}

}  // namespace mooncake_mpi::cuda_ipc
