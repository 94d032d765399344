#include "transport/cuda_ipc/mover.h"

#include <algorithm>
#include <cstring>

#include "transport/cuda_ipc/mover_parts.h"

namespace mooncake_mpi::cuda_ipc {

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
  transport_.quiet_ = false;
}

bool CudaMover::rest() noexcept {
  busy_ = !receives_.empty() || !sends_.empty() || !stopped_.empty();
  return !busy_;
}

Answer CudaMover::expose(const Buffer& buffer, Access access, Exposure& exposure) noexcept {
  const bool known =
      memory_of(buffer.device) != nullptr || (waits_with_work(buffer.device) && !is_self_);
  if (access != Access::kRead || !known) return Answer::kNo;
  const wire::OnDevice key;
  std::memcpy(exposure.key.data(), &key, sizeof key);
  exposure.key_bytes = sizeof key;
  return Answer::kYes;
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
  cuda::GpuMemory& memory = *cuda::known_gpu_memory();
  if (const auto known = memory.known_handle(allocation.id); known || is_self_) {
    if (known) made->memory.handle = *known;
    made->done.store(true, std::memory_order_release);
  } else {
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

void CudaMover::tell_of(Export& exported, std::uint64_t peer_id, PacketSink& sink) {
  if (exported.told) return;
  exported.told = true;
  sink.send_note(peer_, lane(), peer_id, bytes_of(exported.memory));
}

void CudaMover::finish(std::uint64_t receive_id, bool failed, PacketSink& sink) {
  finish(receive_id, failed ? wire::Pushed::kFailed : wire::Pushed::kByEngine, sink);
}

void CudaMover::finish(std::uint64_t receive_id, wire::Pushed::Outcome outcome, PacketSink& sink) {
  wire::Pushed pushed;
  pushed.outcome = outcome;
  sink.send_note(peer_, lane(), receive_id, bytes_of(pushed));
}

std::size_t CudaMover::begun() const noexcept {
  std::size_t count = sending_.size() + starting_.size();
  for (const auto& [device, copying] : copying_)
    count += copying.size();
  return count;
}

unsigned CudaMover::advance(PacketSink& sink) {
  auto worked = static_cast<unsigned>(stopped_.size());
  for (const std::uint64_t receive_id : stopped_)
    finish(receive_id, true, sink);
  stopped_.clear();
  const auto before = static_cast<unsigned>(begun() + over_.size());
  advance_sends(sink);
  advance_receives(sink);
  // Telling of one may begin others.
  while (!over_.empty()) {
    const Over over = over_.back();
    over_.pop_back();
    receives_.erase(over.id);
    sink.on_moved(peer_, over.id, over.failed ? Error::kOther : Error::kNone);
    ++worked;
  }
  const auto left = static_cast<unsigned>(begun());
  return worked + (before > left ? before - left : 0);
}

void CudaMover::abandon() noexcept {
  for (auto& [id, send] : sends_)
    drop(send);
  for (auto& [id, receive] : receives_)
    drop(receive);
  sends_.clear();
  sending_.clear();
  copying_.clear();
  stopped_.clear();
  receives_.clear();
  starting_.clear();
  over_.clear();
}

}  // namespace mooncake_mpi::cuda_ipc
