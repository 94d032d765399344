// The second process of fake_cuda_test: does what its input asks until there is no more.
#include "fake_cuda_process.h"

#include <unistd.h>

#include <cstdio>

#include "drivers/cuda/fake/fake_cuda.h"
#include "drivers/cuda/library.h"

using namespace mooncake_mpi;
using namespace mooncake_mpi::cuda_driver;
using namespace mooncake_mpi::fake_cuda_test;

namespace {

std::uint32_t* word(CUdeviceptr address) {
  return static_cast<std::uint32_t*>(fake_cuda_bytes(address));
}

Answer answer(const Library& cuda, const Request& request) {
  Answer out;
  switch (request.ask) {
    case Ask::kAllocate:
      out.error = cuda.cuMemAlloc(&out.address, request.value);
      break;
    case Ask::kFree:
      out.error = cuda.cuMemFree(request.address);
      break;
    case Ask::kExport:
      out.error = cuda.cuIpcGetMemHandle(&out.handle, request.address);
      break;
    case Ask::kOpen:
      out.error =
          cuda.cuIpcOpenMemHandle(&out.address, request.handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
      break;
    case Ask::kClose:
      out.error = cuda.cuIpcCloseMemHandle(request.address);
      break;
    case Ask::kRead:
      out.value = __atomic_load_n(word(request.address), __ATOMIC_ACQUIRE);
      break;
    case Ask::kWrite:
      __atomic_store_n(word(request.address), static_cast<std::uint32_t>(request.value),
                       __ATOMIC_RELEASE);
      break;
    case Ask::kWaitAndCopy:
      // Waits on its stream for the first word, then copies it into the second.
      out.error = cuda.cuStreamWaitValue32(nullptr, request.address,
                                           static_cast<std::uint32_t>(request.value), 0);
      if (out.error == CUDA_SUCCESS) {
        out.error = cuda.cuMemcpyAsync(request.address + 4, request.address, 4, nullptr);
      }
      break;
  }
  return out;
}

}  // namespace

int main(int, char** arguments) {
  auto library = Library::load(arguments[1]);
  if (!library) {
    std::fprintf(stderr, "%s\n", library.failure().message.c_str());
    return 1;
  }
  const Library& cuda = *library.value();
  CUcontext context = nullptr;
  cuda.cuDevicePrimaryCtxRetain(&context, 0);
  cuda.cuCtxPushCurrent(context);
  Request request;
  while (read(STDIN_FILENO, &request, sizeof request) == sizeof request) {
    const Answer out = answer(cuda, request);
    if (write(STDOUT_FILENO, &out, sizeof out) != sizeof out) return 1;
  }
  return 0;
}
