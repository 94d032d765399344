#pragma once

#include <memory>
#include <string>

#include "drivers/verbs/system_objects.h"

namespace mooncake_mpi::verbs_driver {

class SystemDevice final : public Device {
 public:
  static Result<std::unique_ptr<SystemDevice>> open(const Library& library, ibv_device* device);
  ~SystemDevice() override;

  const Limits& limits() const noexcept override { return limits_; }
  std::uint8_t port_count() const noexcept { return ports_; }
  Result<PortInfo> query_port(std::uint8_t port) override;
  Result<std::unique_ptr<MemoryRegion>> register_memory(void* address, std::size_t bytes,
                                                        unsigned access) override;
  Result<std::unique_ptr<CompletionQueue>> create_completion_queue(std::uint32_t entries) override;
  Result<std::unique_ptr<SharedReceiveQueue>> create_shared_receive_queue(
      std::uint32_t entries) override;
  Result<std::unique_ptr<QueuePair>> create_queue_pair(const QueuePairOptions& options) override {
    return SystemQueuePair::create(library_, domain_, options);
  }
  Result<std::unique_ptr<AddressHandle>> create_address_handle(const Route& route) override;

  int completion_descriptor() const noexcept override { return channel_->fd; }
  CompletionQueue* take_completion_event() noexcept override;
  int event_descriptor() const noexcept override { return context_->async_fd; }
  std::optional<PortEvent> take_event() noexcept override;

 private:
  SystemDevice(const Library& library, ibv_context* context)
      : library_(library), context_(context) {}

  const Library& library_;
  ibv_context* context_;
  ibv_pd* domain_ = nullptr;
  ibv_comp_channel* channel_ = nullptr;
  std::string name_;
  std::uint8_t ports_ = 0;
  Limits limits_;
};

}  // namespace mooncake_mpi::verbs_driver
