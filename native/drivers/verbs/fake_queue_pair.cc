// The fake's queue pairs: how bytes get from one to the other, and how that fails. Any thread:
// calls of the interface take the fabric's lock, the rest is called with it held.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "drivers/verbs/fake_objects.h"

namespace mooncake_mpi::verbs_driver {

FakeQueuePair::FakeQueuePair(FakeDevice& device, FakeFabric& fabric,
                             const QueuePairOptions& options)
    : FakeObject(fabric, fabric.live_),
      device_(device),
      options_(options),
      number_(fabric.next_number_++),
      ready_(!connected()) {
  fabric.pairs_[number_] = this;
}

FakeQueuePair::~FakeQueuePair() {
  const std::lock_guard lock(fabric_.mutex_);
  fabric_.pairs_.erase(number_);
}

std::uint32_t FakeQueuePair::inline_bytes() const noexcept {
  return std::min({options_.inline_bytes, fabric_.inline_bytes_, std::uint32_t{kMaxInline}});
}

Result<bool> FakeQueuePair::connect(const ConnectOptions& options) {
  const std::lock_guard lock(fabric_.mutex_);
  if (const int error = fabric_.fault(Step::kConnect); error != 0) {
    return Failure{Error::kUnreachable, std::string("connect: ") + std::strerror(error)};
  }
  if (failed_) return Failure{Error::kUnreachable, "connect: the queue pair has failed"};
  remote_ = options;
  ready_ = true;
  return true;
}

void FakeQueuePair::fail() noexcept {
  const std::lock_guard lock(fabric_.mutex_);
  failed_ = true;
  while (!pending_.empty()) {
    const SendRequest request = pending_.front().request;
    pending_.pop_front();
    complete(request, Status::kFlushed);
  }
}

int FakeQueuePair::post_send(const SendRequest& request) noexcept {
  const std::lock_guard lock(fabric_.mutex_);
  if (const int error = fabric_.fault(Step::kPostSend); error != 0) return error;
  if (!ready_) return EINVAL;
  if (outstanding_ == options_.send_depth) return ENOMEM;
  if (request.inlined && request.bytes > inline_bytes()) return EINVAL;
  ++outstanding_;
  Pending pending;
  pending.request = request;
  if (request.inlined) {
    std::copy_n(request.address, request.bytes, pending.inlined.begin());
    ++fabric_.counters_.inlined;
  }
  if (request.handle != nullptr) pending.gid = static_cast<FakeAddressHandle*>(request.handle)->gid;
  if (failed_) {
    complete(request, Status::kFlushed);
    return 0;
  }
  pending_.push_back(pending);
  if (!fabric_.held_) {
    while (!pending_.empty())
      fabric_.execute(*this);
  }
  return 0;
}

int FakeQueuePair::post_receive(const ReceiveRequest& request) noexcept {
  const std::lock_guard lock(fabric_.mutex_);
  if (const int error = fabric_.fault(Step::kPostReceive); error != 0) return error;
  if (receives_.size() == options_.receive_depth) return ENOMEM;
  receives_.push_back(request);
  return 0;
}

FakeQueue<ReceiveRequest>& FakeQueuePair::receive_queue() {
  if (options_.receives == nullptr) return receives_;
  return static_cast<FakeSharedReceiveQueue*>(options_.receives)->requests;
}

Status FakeQueuePair::transmit(Pending& pending) {
  if (!connected()) {
    datagram(pending);
    return Status::kSuccess;
  }
  if (failed_) return Status::kFlushed;
  FakeFabric::Fault& fault = fabric_.completion_fault_;
  if (fault.times != 0 && fault.skip-- == 0) {
    fault.skip = 0;
    --fault.times;
    return fabric_.completion_status_;
  }
  if (!device_.port().active) return Status::kLocalOperation;
  const FakeFabric::Port* port = fabric_.find(remote_.route.gid);
  const auto found = fabric_.pairs_.find(remote_.remote_queue_pair);
  if (port == nullptr || !port->active || found == fabric_.pairs_.end()) {
    return Status::kRetryExceeded;
  }
  if (port->rail == fabric_.cut_rail_) {
    fabric_.counters_.cut_off += pending.request.bytes != 0 ? 1 : 0;
    return Status::kRetryExceeded;
  }
  FakeQueuePair& remote = *found->second;
  const bool paired = &remote.device_.port() == port && remote.ready_ && !remote.failed_ &&
                      remote.remote_.remote_queue_pair == number_ &&
                      remote.remote_.remote_psn == remote_.local_psn;
  if (!paired) return Status::kRetryExceeded;
  return pending.request.operation == SendRequest::Operation::kSend ? send(pending, remote)
                                                                    : access(pending, remote);
}

namespace {

std::span<const std::byte> payload(const SendRequest& request, std::span<const std::byte> inlined) {
  return request.inlined ? inlined.first(request.bytes)
                         : std::span<const std::byte>(request.address, request.bytes);
}

// The region of a key that covers a range with these rights.
bool open_to(FakeDevice& device, std::uint32_t key, const std::byte* address, std::size_t bytes,
             unsigned access) {
  const auto found = device.regions.find(key);
  return found != device.regions.end() && found->second->covers(address, bytes) &&
         (found->second->access() & access) == access;
}

}  // namespace

Status FakeQueuePair::send(Pending& pending, FakeQueuePair& remote) {
  const SendRequest& request = pending.request;
  if (!request.inlined && request.bytes != 0 &&
      !open_to(device_, request.local_key, request.address, request.bytes, 0)) {
    return Status::kLocalProtection;
  }
  ++fabric_.counters_.sends;
  if (remote.receive(*this, payload(request, pending.inlined), 0)) return Status::kSuccess;
  ++fabric_.counters_.receiver_not_ready;
  return Status::kReceiverNotReady;
}

bool FakeQueuePair::receive(FakeQueuePair& from, std::span<const std::byte> bytes,
                            std::size_t offset) {
  if (receive_queue().empty()) return false;
  const ReceiveRequest request = receive_queue().front();
  if (bytes.size() + offset > request.bytes) return false;
  receive_queue().pop_front();
  if (!bytes.empty()) std::memcpy(request.address + offset, bytes.data(), bytes.size());
  static_cast<FakeCompletionQueue*>(options_.completions)
      ->push({.id = request.id,
              .status = Status::kSuccess,
              .receive = true,
              .bytes = static_cast<std::uint32_t>(bytes.size() + offset),
              .queue_pair = number_});
  (void)from;
  return true;
}

Status FakeQueuePair::access(const Pending& pending, FakeQueuePair& remote) {
  const SendRequest& request = pending.request;
  if (request.bytes == 0) return Status::kSuccess;
  auto* target = reinterpret_cast<std::byte*>(request.remote_address);
  const bool reading = request.operation == SendRequest::Operation::kRead;
  if (!open_to(device_, request.local_key, request.address, request.bytes,
               reading ? kLocalWrite : 0)) {
    return Status::kLocalProtection;
  }
  if (!open_to(remote.device_, request.remote_key - 1, target, request.bytes,
               reading ? kRemoteRead : kRemoteWrite)) {
    ++fabric_.counters_.refused;
    remote.fail();
    return Status::kRemoteAccess;
  }
  if (reading) {
    ++fabric_.counters_.reads;
    ++fabric_.counters_.reads_by_rail.at(static_cast<std::size_t>(device_.port().rail));
    std::memcpy(request.address, target, request.bytes);
  } else {
    std::memcpy(target, request.address, request.bytes);
  }
  return Status::kSuccess;
}

// May be lost, as on a real network: nobody is told.
void FakeQueuePair::datagram(Pending& pending) {
  ++fabric_.counters_.datagrams;
  const SendRequest& request = pending.request;
  if (fabric_.recording_) {
    const auto bytes = payload(request, pending.inlined);
    fabric_.recorded_.push_back(
        {request.remote_queue_pair, request.queue_key, {bytes.begin(), bytes.end()}});
  }
  if (fabric_.dropped_datagrams_ != 0) {
    --fabric_.dropped_datagrams_;
    return;
  }
  const FakeFabric::Port* port = fabric_.find(pending.gid);
  const auto found = fabric_.pairs_.find(request.remote_queue_pair);
  if (!device_.port().active || port == nullptr || !port->active || found == fabric_.pairs_.end() ||
      &found->second->device_.port() != port ||
      found->second->options_.queue_key != request.queue_key) {
    return;
  }
  found->second->receive(*this, payload(request, pending.inlined), 40);  // behind a GRH
}

void FakeQueuePair::complete(const SendRequest& request, Status status) {
  if (status != Status::kSuccess) failed_ = true;
  if (status == Status::kSuccess && !request.signaled) return;
  // A completion gives back the room of the unsignaled requests before it, too.
  outstanding_ = static_cast<std::uint32_t>(pending_.size());
  if (fabric_.lost_completions_ != 0) {
    --fabric_.lost_completions_;
  } else {
    static_cast<FakeCompletionQueue*>(options_.completions)
        ->push({.id = request.id,
                .status = status,
                .receive = false,
                .bytes = request.bytes,
                .queue_pair = number_});
  }
  if (status != Status::kSuccess && !pending_.empty()) fail();
}

}  // namespace mooncake_mpi::verbs_driver
