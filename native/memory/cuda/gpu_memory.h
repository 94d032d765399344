// The memory of this process's GPUs. Made when the first device buffer is met, for the life of the
// process. Any thread, without the engine's lock.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "drivers/cuda/driver.h"
#include "memory/cuda/blocks.h"
#include "memory/cuda/copy_queue.h"
#include "memory/cuda/device_end.h"
#include "memory/cuda/gate.h"
#include "memory/cuda/kernels/kernels.h"
#include "memory/cuda/moment.h"
#include "memory/cuda/slots.h"
#include "memory/cuda/stream_end.h"
#include "memory/cuda/stream_work.h"
#include "memory/memory_device.h"

namespace mooncake_mpi::cuda {

// What the protocol is told that memory in a stream's order is of. Its source or sink is made by a
// StreamEnd; movers know what it is where the stream waits with work.
class StreamMemory final : public MemoryDevice {
 public:
  explicit StreamMemory(bool is_host) noexcept : is_host_(is_host) {}
  Result<std::unique_ptr<Source>> source(const Buffer&) override { return refusal(); }
  Result<std::unique_ptr<Sink>> sink(const Buffer&) override { return refusal(); }
  bool is_host() const noexcept override { return is_host_; }

 private:
  static Failure refusal() { return {Error::kOther, "memory in a stream's order"}; }
  bool is_host_;
};

class GpuMemory final : public MemoryDevice {
 public:
  explicit GpuMemory(cuda_driver::Driver& driver)
      : driver_(driver),
        moments_(driver),
        gates_(driver),
        kernels_(driver, gates_),
        queue_(driver, moments_, gates_, kernels_),
        works_(driver, gates_, moments_, kernels_),
        slots_(driver, queue_),
        blocks_(driver) {}

  // An array's memory as a buffer: of the device, or of the host where it is that (pinned or
  // managed). Refused where the allocation that it begins in ends before it does.
  Result<Buffer> describe(std::byte* address, std::uint64_t bytes,
                          cuda_driver::StreamHandle stream);

  Result<std::unique_ptr<Source>> source(const Buffer& buffer) override;
  Result<std::unique_ptr<Sink>> sink(const Buffer& buffer) override;
  // What describe() has just been told by the driver is not asked again in the same call.
  Result<cuda_driver::Allocation> locate(const std::byte* address) const;

  cuda_driver::Driver& driver() noexcept { return driver_; }
  CopyQueue& queue() noexcept { return queue_; }
  Gates& gates() noexcept { return gates_; }
  const Gates& gates() const noexcept { return gates_; }
  Blocks& blocks() noexcept { return blocks_; }
  // A device's own, for bytes that lie apart.
  Blocks& device_blocks(int device);
  Moments& moments() noexcept { return moments_; }
  StreamWorks& works() noexcept { return works_; }
  std::unique_ptr<StreamEnd> stream_end() {
    return std::make_unique<StreamEnd>(driver_, gates_, moments_, works_);
  }
  StreamMemory& in_stream_order(bool is_host, bool with_work) noexcept {
    return is_host ? host_in_stream_ : with_work ? waiting_array_ : array_in_stream_;
  }
  // Whether a source or sink of that device is a StreamSource or StreamSink with work.
  bool waits_with_work(const MemoryDevice* device) const noexcept {
    return device == &waiting_array_;
  }
  // How others open an allocation, asked for now: once a stream waits it may be too late.
  Result<bool> learn_handle(const cuda_driver::Allocation& allocation);
  std::optional<cuda_driver::IpcHandle> known_handle(std::uint64_t allocation);

 private:
  Result<DeviceEnd> end_of(const Buffer& buffer);

  cuda_driver::Driver& driver_;
  Moments moments_;
  Gates gates_;
  Kernels kernels_;
  CopyQueue queue_;
  StreamWorks works_;
  Slots slots_;
  Blocks blocks_;
  std::mutex mutex_;                                      // guards the next
  std::map<int, std::unique_ptr<Blocks>> device_blocks_;  // by device
  StreamMemory host_in_stream_{true};
  StreamMemory array_in_stream_{false};
  StreamMemory waiting_array_{false};
  struct Handle {
    cuda_driver::DeviceAddress base;
    std::uint64_t bytes;
    cuda_driver::IpcHandle handle;
  };
  std::mutex handles_mutex_;  // guards the next
  std::map<std::uint64_t, Handle> handles_;
};

// This process's, or why it has none; `library` names the driver's file at the first call.
Result<GpuMemory*> gpu_memory(const std::string& library);
// The one that there is already, or nullptr.
GpuMemory* known_gpu_memory() noexcept;

}  // namespace mooncake_mpi::cuda
