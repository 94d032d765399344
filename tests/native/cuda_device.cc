#include "cuda_device.h"

#include <algorithm>
#include <cstdlib>

#include "drivers/cuda/fake/fake_cuda.h"
#include "drivers/cuda/library.h"

namespace mooncake_mpi::testing {
namespace {

using namespace cuda_driver;

const Library& library() {
  static const Library& loaded = *Library::load(MOONCAKE_MPI_FAKE_CUDA).value();
  return loaded;
}

void check(CUresult error) {
  if (error != CUDA_SUCCESS) std::abort();
}

DeviceAddress number(const std::byte* address) {
  return reinterpret_cast<DeviceAddress>(address);
}

}  // namespace

void start_cuda(bool opens) {
  cuda_memory();
  fake_cuda_reset();
  fake_cuda_open_own(1);
  if (!opens) fake_cuda_fail("cuIpcOpenMemHandle", CUDA_ERROR_INVALID_VALUE, 0, -1);
}

cuda::GpuMemory& cuda_memory() {
  static cuda::GpuMemory& memory = *cuda::gpu_memory(MOONCAKE_MPI_FAKE_CUDA).value();
  return memory;
}

void settle_cuda() {
  while (cuda_memory().queue().waits())
    cuda_memory().queue().run();
}

std::byte* allocate_cuda(std::size_t bytes) {
  static int turn = 0;
  CUcontext context = nullptr;
  check(library().cuDevicePrimaryCtxRetain(&context, turn++ % 2));
  check(library().cuCtxPushCurrent(context));
  DeviceAddress address = 0;
  check(library().cuMemAlloc(&address, std::max<std::size_t>(bytes, 1)));
  check(library().cuCtxPopCurrent(&context));
  return reinterpret_cast<std::byte*>(address);
}

void free_cuda(std::byte* address) {
  check(library().cuMemFree(number(address)));
}

std::byte* cuda_bytes(std::byte* address) {
  return static_cast<std::byte*>(fake_cuda_bytes(number(address)));
}

}  // namespace mooncake_mpi::testing
