// What the program's devices have to do for messages; nothing, and a load, until a device is met.
// Any thread, without the engine's lock.
#pragma once

#include <atomic>
#include <cstdint>

#include "memory/memory_device.h"

namespace mooncake_mpi {

class DeviceDesk {
 public:
  // Once; it stays.
  void set(DeviceWork& work) noexcept { work_.store(&work, std::memory_order_release); }
  void run(bool more_to_come) const {
    DeviceWork* work = known();
    if (work != nullptr && work->waits()) [[unlikely]]
      work->run(more_to_come);
  }
  bool has_work() const noexcept {
    const DeviceWork* work = known();
    return work != nullptr && work->waits();
  }
  bool streams_awaited() const noexcept {
    const DeviceWork* work = known();
    return work != nullptr && work->streams_awaited();
  }
  // How long a thread may sleep that waits for anything.
  std::uint64_t nap_ns() const noexcept {
    const DeviceWork* work = known();
    return work != nullptr ? work->nap_ns() : UINT64_MAX;
  }

 private:
  DeviceWork* known() const noexcept { return work_.load(std::memory_order_acquire); }
  std::atomic<DeviceWork*> work_{nullptr};
};

}  // namespace mooncake_mpi
