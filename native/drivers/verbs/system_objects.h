// Queue pairs, queues and memory regions of libibverbs, each owning its handle.
#pragma once

#include <memory>

#include "drivers/verbs/library.h"
#include "drivers/verbs/verbs.h"

namespace mooncake_mpi::verbs_driver {

// "ibv_create_qp: Cannot allocate memory", with what to do about it where that is known.
Failure system_failure(const char* call, int error);

ibv_ah_attr address_vector(const Route& route);

class SystemMemoryRegion final : public MemoryRegion {
 public:
  SystemMemoryRegion(const Library& library, ibv_mr* region) : library_(library), region_(region) {}
  ~SystemMemoryRegion() override { library_.dereg_mr(region_); }
  std::uint32_t local_key() const noexcept override { return region_->lkey; }
  std::uint32_t remote_key() const noexcept override { return region_->rkey; }

 private:
  const Library& library_;
  ibv_mr* region_;
};

class SystemAddressHandle final : public AddressHandle {
 public:
  SystemAddressHandle(const Library& library, ibv_ah* handle)
      : library_(library), handle_(handle) {}
  ~SystemAddressHandle() override { library_.destroy_ah(handle_); }
  ibv_ah* handle() const noexcept { return handle_; }

 private:
  const Library& library_;
  ibv_ah* handle_;
};

class SystemCompletionQueue final : public CompletionQueue {
 public:
  SystemCompletionQueue(const Library& library, ibv_cq* queue) : library_(library), queue_(queue) {
    queue_->cq_context = static_cast<CompletionQueue*>(this);
  }
  ~SystemCompletionQueue() override { library_.destroy_cq(queue_); }
  int poll(std::span<WorkCompletion> completions) noexcept override;
  int arm() noexcept override { return queue_->context->ops.req_notify_cq(queue_, 0); }
  ibv_cq* handle() const noexcept { return queue_; }

 private:
  const Library& library_;
  ibv_cq* queue_;
};

class SystemSharedReceiveQueue final : public SharedReceiveQueue {
 public:
  SystemSharedReceiveQueue(const Library& library, ibv_srq* queue)
      : library_(library), queue_(queue) {}
  ~SystemSharedReceiveQueue() override { library_.destroy_srq(queue_); }
  int post_receive(const ReceiveRequest& request) noexcept override;
  ibv_srq* handle() const noexcept { return queue_; }

 private:
  const Library& library_;
  ibv_srq* queue_;
};

class SystemQueuePair final : public QueuePair {
 public:
  static Result<std::unique_ptr<QueuePair>> create(const Library& library, ibv_pd* domain,
                                                   const QueuePairOptions& options);
  ~SystemQueuePair() override { library_.destroy_qp(pair_); }
  std::uint32_t number() const noexcept override { return pair_->qp_num; }
  std::uint32_t inline_bytes() const noexcept override { return inline_bytes_; }
  Result<bool> connect(const ConnectOptions& options) override;
  void fail() noexcept override;
  int post_send(const SendRequest& request) noexcept override;
  int post_receive(const ReceiveRequest& request) noexcept override;

 private:
  SystemQueuePair(const Library& library, ibv_qp* pair, std::uint32_t inline_bytes)
      : library_(library), pair_(pair), inline_bytes_(inline_bytes) {}
  Result<bool> initialise(const QueuePairOptions& options);
  Result<bool> modify(ibv_qp_attr& attributes, int mask, const char* state);

  const Library& library_;
  ibv_qp* pair_;
  std::uint32_t inline_bytes_;
};

}  // namespace mooncake_mpi::verbs_driver
