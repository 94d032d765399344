// Two arrays of the fake driver's GPUs on one device, with a memory of their own: a device that has
// failed stays so in a memory, and what it has of the driver's is for good.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "cuda_device.h"
#include "drivers/cuda/fake/driver.h"
#include "drivers/cuda/fake/fake_cuda.h"

namespace mooncake_mpi::testing {

inline cuda::GpuMemory& fresh_cuda_memory() {
  start_cuda(true);
  static auto& kept = *new std::vector<std::unique_ptr<cuda::GpuMemory>>;
  return *kept.emplace_back(new cuda::GpuMemory(cuda_memory().driver()));
}

class CudaPair {
 public:
  explicit CudaPair(std::size_t size)
      : memory_(fresh_cuda_memory()), from_(allocate_cuda(size)), to_(allocate_cuda(size)) {
    device_ = memory_.driver().locate(number(from_)).value().device;
    std::memset(bytes(from_), 7, size);
    std::memset(bytes(to_), 1, size);
  }
  ~CudaPair() {
    fake_cuda_reset();
    free_cuda(from_);
    free_cuda(to_);
  }
  CudaPair(const CudaPair&) = delete;
  CudaPair& operator=(const CudaPair&) = delete;

 protected:
  static cuda_driver::DeviceAddress number(const std::byte* address) {
    return reinterpret_cast<cuda_driver::DeviceAddress>(address);
  }
  static char* bytes(std::byte* address) { return reinterpret_cast<char*>(cuda_bytes(address)); }

  cuda::GpuMemory& memory_;
  std::byte* from_;  // full of sevens
  std::byte* to_;    // full of ones
  int device_ = -1;
};

}  // namespace mooncake_mpi::testing
