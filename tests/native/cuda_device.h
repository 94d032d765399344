// GPUs of the fake driver for native tests: one process plays all ranks.
#pragma once

#include <cstddef>

#include "memory/cuda/gpu_memory.h"

namespace mooncake_mpi::testing {

// Before a test; `opens`: whether ranks can open each other's memory.
void start_cuda(bool opens);
cuda::GpuMemory& cuda_memory();
// Ends what GPUs have under way for a rank that has ended: a driver does that before anybody can
// see the end of its process.
void settle_cuda();
// On the devices in turn. The processor must not touch what is there; cuda_bytes() is the same
// memory for the test.
std::byte* allocate_cuda(std::size_t bytes);
void free_cuda(std::byte* address);
std::byte* cuda_bytes(std::byte* address);

}  // namespace mooncake_mpi::testing
