#include "memory/cuda/gpu_memory.h"

#include <atomic>
#include <mutex>
#include <utility>

#include "base/clock.h"

namespace mooncake_mpi::cuda {
namespace {

std::atomic<GpuMemory*> the_memory{nullptr};

// The answer that describe() got last in this thread; taken once.
struct Located {
  const std::byte* address = nullptr;
  std::uint64_t at_ns = 0;
  cuda_driver::Allocation allocation;
};
thread_local Located last_located;

std::string in_hexadecimal(const std::byte* address) {
  char text[20];
  std::snprintf(text, sizeof text, "%p", static_cast<const void*>(address));
  return text;
}

}  // namespace

Result<Buffer> GpuMemory::describe(std::byte* address, std::uint64_t bytes,
                                   cuda_driver::StreamHandle stream) {
  if (bytes == 0) return Buffer{};
  auto located = driver_.locate(reinterpret_cast<cuda_driver::DeviceAddress>(address));
  if (!located) return located.failure();
  const cuda_driver::Allocation& found = located.value();
  if (!found.on_device) return Buffer{address, bytes};
  last_located = {address, now_ns(), found};
  const std::uint64_t behind =
      found.base + found.bytes - reinterpret_cast<cuda_driver::DeviceAddress>(address);
  // An array in virtual memory may go on in the next piece of it.
  if (found.exportable && bytes > behind) {
    return Failure{Error::kBuffer, "the " + std::to_string(bytes) + " bytes at " +
                                       in_hexadecimal(address) + " on CUDA device " +
                                       std::to_string(found.device) +
                                       " are more than their allocation has (freed memory?)"};
  }
  return Buffer{address, bytes, this, stream};
}

Result<cuda_driver::Allocation> GpuMemory::locate(const std::byte* address) const {
  constexpr std::uint64_t kSameCallNs = 20'000;
  const bool known = std::exchange(last_located.address, nullptr) == address;
  if (known && now_ns() - last_located.at_ns < kSameCallNs) return last_located.allocation;
  return driver_.locate(reinterpret_cast<cuda_driver::DeviceAddress>(address));
}

Result<DeviceEnd> GpuMemory::end_of(const Buffer& buffer) {
  const auto address = reinterpret_cast<cuda_driver::DeviceAddress>(buffer.address);
  auto located = locate(buffer.address);
  if (!located) return located.failure();
  const cuda_driver::Allocation& found = located.value();
  if (!found.on_device) {
    return Failure{Error::kBuffer, "no GPU memory (any more) at " + in_hexadecimal(buffer.address)};
  }
  auto moment = moments_.take(found.device, buffer.stream);
  if (!moment) return moment.failure();
  DeviceEnd end{found, address, buffer.bytes, nullptr};
  if (!moment.value().reached()) {
    end.ready = std::make_shared<const Moment>(std::move(moment).value());
  }
  return end;
}

Result<std::unique_ptr<Source>> GpuMemory::source(const Buffer& buffer) {
  auto end = end_of(buffer);
  if (!end) return end.failure();
  return std::unique_ptr<Source>(
      std::make_unique<DeviceSource>(std::move(end).value(), queue_, slots_));
}

Result<std::unique_ptr<Sink>> GpuMemory::sink(const Buffer& buffer) {
  auto end = end_of(buffer);
  if (!end) return end.failure();
  return std::unique_ptr<Sink>(
      std::make_unique<DeviceSink>(std::move(end).value(), queue_, slots_));
}

Result<bool> GpuMemory::learn_handle(const cuda_driver::Allocation& allocation) {
  if (!allocation.exportable || known_handle(allocation.id)) return true;
  auto exported = driver_.export_memory(allocation.device, allocation.base);
  if (!exported) return exported.failure();
  const std::scoped_lock lock(handles_mutex_);
  // What lay there before has been freed.
  std::erase_if(handles_, [&](const auto& other) {
    const Handle& known = other.second;
    return known.base < allocation.base + allocation.bytes &&
           allocation.base < known.base + known.bytes;
  });
  handles_[allocation.id] = {allocation.base, allocation.bytes, exported.value()};
  return true;
}

std::optional<cuda_driver::IpcHandle> GpuMemory::known_handle(std::uint64_t allocation) {
  const std::scoped_lock lock(handles_mutex_);
  const auto known = handles_.find(allocation);
  if (known == handles_.end()) return std::nullopt;
  return known->second.handle;
}

Blocks& GpuMemory::device_blocks(int device) {
  const std::scoped_lock lock(mutex_);
  auto& blocks = device_blocks_[device];
  if (blocks == nullptr) blocks = std::make_unique<Blocks>(driver_, device);
  return *blocks;
}

Result<GpuMemory*> gpu_memory(const std::string& library) {
  if (GpuMemory* known = known_gpu_memory()) return known;
  static std::mutex mutex;
  std::scoped_lock lock(mutex);
  if (GpuMemory* known = known_gpu_memory()) return known;
  auto driver = cuda_driver::Driver::instance(library);
  if (!driver) return driver.failure();
  auto* made = new GpuMemory(*driver.value());
  the_memory.store(made, std::memory_order_release);
  return made;
}

GpuMemory* known_gpu_memory() noexcept {
  return the_memory.load(std::memory_order_acquire);
}

}  // namespace mooncake_mpi::cuda
