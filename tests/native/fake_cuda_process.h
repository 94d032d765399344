// A second process with the fake driver: what the test asks of it, and what it answers. Both go
// through pipes as they are.
#pragma once

#include "drivers/cuda/abi.h"

namespace mooncake_mpi::fake_cuda_test {

enum class Ask : int { kAllocate, kFree, kExport, kOpen, kClose, kRead, kWrite, kWaitAndCopy };

struct Request {
  Ask ask = Ask::kAllocate;
  cuda_driver::CUdeviceptr address = 0;
  std::uint64_t value = 0;  // bytes, or the word to write
  cuda_driver::CUipcMemHandle handle{};
};

struct Answer {
  cuda_driver::CUresult error = cuda_driver::CUDA_SUCCESS;
  cuda_driver::CUdeviceptr address = 0;
  std::uint32_t value = 0;
  cuda_driver::CUipcMemHandle handle{};
};

}  // namespace mooncake_mpi::fake_cuda_test
