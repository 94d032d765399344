// The memory of this process's GPUs. Made when the first device buffer is met, for the life of the
// process. Any thread, without the engine's lock.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "drivers/cuda/driver.h"
#include "memory/cuda/copy_queue.h"
#include "memory/cuda/device_end.h"
#include "memory/cuda/moment.h"
#include "memory/cuda/slots.h"
#include "memory/memory_device.h"

namespace mooncake_mpi::cuda {

class GpuMemory final : public MemoryDevice {
 public:
  explicit GpuMemory(cuda_driver::Driver& driver)
      : driver_(driver), moments_(driver), queue_(driver, moments_), slots_(driver, queue_) {}

  // An array's memory as a buffer: of the device, or of the host where it is that (pinned or
  // managed). Refused where the allocation that it begins in ends before it does.
  Result<Buffer> describe(std::byte* address, std::uint64_t bytes,
                          cuda_driver::StreamHandle stream);

  Result<std::unique_ptr<Source>> source(const Buffer& buffer) override;
  Result<std::unique_ptr<Sink>> sink(const Buffer& buffer) override;

  cuda_driver::Driver& driver() noexcept { return driver_; }
  CopyQueue& queue() noexcept { return queue_; }

 private:
  Result<DeviceEnd> end_of(const Buffer& buffer);

  cuda_driver::Driver& driver_;
  Moments moments_;
  CopyQueue queue_;
  Slots slots_;
};

// This process's, or why it has none; `library` names the driver's file at the first call.
Result<GpuMemory*> gpu_memory(const std::string& library);
// The one that there is already, or nullptr.
GpuMemory* known_gpu_memory() noexcept;

}  // namespace mooncake_mpi::cuda
