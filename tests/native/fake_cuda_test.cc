// The fake driver's contexts, memory, faults and other processes.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <vector>

#include "fake_cuda_fixture.h"
#include "fake_cuda_process.h"

namespace mooncake_mpi::fake_cuda_test {
namespace {

struct Attributes {
  CUcontext context = nullptr;
  unsigned type = 0;
  std::uint64_t buffer = 0;
  bool managed = false;
  int ordinal = 0;
  bool ipc = false;
  CUdeviceptr start = 0;
  std::size_t bytes = 0;
};

Attributes attributes_of(CUdeviceptr address) {
  Attributes found;
  CUpointer_attribute wanted[] = {
      CU_POINTER_ATTRIBUTE_CONTEXT,          CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
      CU_POINTER_ATTRIBUTE_BUFFER_ID,        CU_POINTER_ATTRIBUTE_IS_MANAGED,
      CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,   CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
      CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, CU_POINTER_ATTRIBUTE_RANGE_SIZE};
  void* data[] = {&found.context, &found.type, &found.buffer, &found.managed,
                  &found.ordinal, &found.ipc,  &found.start,  &found.bytes};
  EXPECT_EQ(cuda().cuPointerGetAttributes(8, wanted, data, address), CUDA_SUCCESS);
  return found;
}

using FakeCudaMemory = FakeCuda;

TEST_F(FakeCudaMemory, WithoutAContextNothingIsMade) {
  cuda().cuCtxPopCurrent(nullptr);
  CUdeviceptr address = 0;
  CUstream stream = nullptr;
  CUevent event = nullptr;
  EXPECT_EQ(cuda().cuMemAlloc(&address, 64), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_EQ(cuda().cuStreamCreateWithPriority(&stream, 0, 0), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_EQ(cuda().cuEventCreate(&event, 0), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_EQ(cuda().cuStreamQuery(nullptr), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_EQ(cuda().cuCtxPopCurrent(nullptr), CUDA_ERROR_INVALID_CONTEXT);
  cuda().cuCtxPushCurrent(context);
}

TEST_F(FakeCudaMemory, ADevicesContextIsThereWhileItIsRetained) {
  EXPECT_EQ(fake_cuda_contexts(), 1u);
  CUcontext other = nullptr;
  unsigned flags = 0;
  int active = 1;
  EXPECT_EQ(cuda().cuDevicePrimaryCtxGetState(1, &flags, &active), CUDA_SUCCESS);
  EXPECT_EQ(active, 0);
  EXPECT_EQ(cuda().cuDevicePrimaryCtxRetain(&other, 1), CUDA_SUCCESS);
  EXPECT_EQ(fake_cuda_contexts(), 3u);
  EXPECT_EQ(cuda().cuDevicePrimaryCtxRelease(1), CUDA_SUCCESS);
  EXPECT_EQ(cuda().cuDevicePrimaryCtxRelease(1), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_EQ(cuda().cuCtxPushCurrent(other), CUDA_ERROR_CONTEXT_IS_DESTROYED);
}

TEST_F(FakeCudaMemory, TheProcessorCannotTouchDeviceMemory) {
  const CUdeviceptr device = allocate(64);
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  EXPECT_EQ(write(pipe_ends[1], reinterpret_cast<const void*>(device), 1), -1);
  EXPECT_EQ(errno, EFAULT);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

TEST_F(FakeCudaMemory, AnAddressTellsItsAllocation) {
  const CUdeviceptr first = allocate(1000);
  const Attributes found = attributes_of(first + 999);
  EXPECT_EQ(found.context, context);
  EXPECT_EQ(found.type, CU_MEMORYTYPE_DEVICE);
  EXPECT_NE(found.buffer, 0u);
  EXPECT_TRUE(found.ipc);
  EXPECT_FALSE(found.managed);
  EXPECT_EQ(found.start, first);
  EXPECT_EQ(found.bytes, 1000u);
  EXPECT_EQ(attributes_of(first + 1000).type, CU_MEMORYTYPE_NONE);
  EXPECT_EQ(attributes_of(address(pinned())).type, CU_MEMORYTYPE_HOST);
  const int here = 0;
  EXPECT_EQ(attributes_of(address(&here)).context, nullptr);
  EXPECT_FALSE(attributes_of(fake_cuda_alloc_pool(64)).ipc);
}

TEST_F(FakeCudaMemory, AFreedAddressComesAgainAsAnotherBuffer) {
  const CUdeviceptr first = allocate(8192);
  const auto buffer = attributes_of(first).buffer;
  EXPECT_EQ(cuda().cuMemFree(first), CUDA_SUCCESS);
  EXPECT_EQ(cuda().cuMemFree(first), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(attributes_of(first).type, CU_MEMORYTYPE_NONE);
  EXPECT_EQ(allocate(8192), first);
  EXPECT_NE(attributes_of(first).buffer, buffer);
}

TEST_F(FakeCudaMemory, CopiesGoBetweenAllKindsOfMemory) {
  CUcontext other = nullptr;
  cuda().cuDevicePrimaryCtxRetain(&other, 1);
  cuda().cuCtxPushCurrent(other);
  const CUdeviceptr peer = allocate(1 << 20);
  cuda().cuCtxPopCurrent(nullptr);
  const CUdeviceptr device = allocate(1 << 20);
  std::vector<char> out(1 << 20, 'a');
  std::vector<char> in(1 << 20);
  const CUstream s = stream();
  EXPECT_EQ(cuda().cuMemcpyAsync(device, address(out.data()), out.size(), s), CUDA_SUCCESS);
  std::memset(out.data(), 'b', out.size());  // it was read before the call returned
  EXPECT_EQ(cuda().cuMemcpyAsync(peer, device, out.size(), s), CUDA_SUCCESS);
  EXPECT_EQ(cuda().cuMemcpyAsync(address(in.data()), peer, in.size(), s), CUDA_SUCCESS);
  EXPECT_EQ(in, std::vector<char>(1 << 20, 'a'));  // and this one waits
  std::uint32_t* words = pinned();
  EXPECT_EQ(cuda().cuMemcpyAsync(address(words), peer + 4, 4, s), CUDA_SUCCESS);
  EXPECT_EQ(cuda().cuStreamSynchronize(s), CUDA_SUCCESS);
  EXPECT_EQ(words[0], 0x61616161u);
  EXPECT_EQ(cuda().cuMemcpyAsync(device + 1, peer, 1 << 20, s), CUDA_ERROR_INVALID_VALUE);
  cuda().cuDevicePrimaryCtxRelease(1);
}

TEST_F(FakeCudaMemory, ACopyOfFreedMemoryIsRefused) {
  const CUdeviceptr device = allocate(64);
  const CUdeviceptr freed = allocate(4096);
  cuda().cuMemFree(freed);
  EXPECT_EQ(cuda().cuMemcpyAsync(device, freed, 64, stream()), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(FakeCudaMemory, MemoryFreedUnderAQueuedCopyBreaksTheDevice) {
  const CUdeviceptr from = allocate(4096);
  const CUdeviceptr to = allocate(4096);
  const CUstream s = stream();
  fake_cuda_hold(s, 1);
  EXPECT_EQ(cuda().cuMemcpyAsync(to, from, 64, s), CUDA_SUCCESS);
  EXPECT_EQ(cuda().cuMemFree(from), CUDA_SUCCESS);
  fake_cuda_hold(s, 0);
  EXPECT_EQ(cuda().cuStreamSynchronize(s), CUDA_ERROR_ILLEGAL_ADDRESS);
  CUdeviceptr more = 0;
  EXPECT_EQ(cuda().cuMemAlloc(&more, 64), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(cuda().cuStreamQuery(s), CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST_F(FakeCudaMemory, ACallFailsAsOftenAsItWasTold) {
  fake_cuda_fail("cuMemAlloc", CUDA_ERROR_OUT_OF_MEMORY, 1, 2);
  const long before = fake_cuda_calls("cuMemAlloc");
  CUdeviceptr made = 0;
  EXPECT_EQ(cuda().cuMemAlloc(&made, 64), CUDA_SUCCESS);
  EXPECT_EQ(cuda().cuMemAlloc(&made, 64), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(cuda().cuMemAlloc(&made, 64), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(cuda().cuMemAlloc(&made, 64), CUDA_SUCCESS);
  EXPECT_EQ(fake_cuda_calls("cuMemAlloc"), before + 4);
}

TEST_F(FakeCudaMemory, AChildOfForkHasNoDriver) {
  const pid_t child = fork();
  if (child == 0) {
    CUdeviceptr made = 0;
    _exit(cuda().cuMemAlloc(&made, 64) == CUDA_ERROR_NOT_INITIALIZED ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// A process of its own.
class Process {
 public:
  Process() {
    int to[2];
    int from[2];
    EXPECT_EQ(pipe2(to, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(from, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(to[0], STDIN_FILENO);
      dup2(from[1], STDOUT_FILENO);
      execl(MOONCAKE_MPI_FAKE_CUDA_PROCESS, MOONCAKE_MPI_FAKE_CUDA_PROCESS, MOONCAKE_MPI_FAKE_CUDA,
            nullptr);
      _exit(127);
    }
    close(to[0]);
    close(from[1]);
    to_ = to[1];
    from_ = from[0];
  }
  ~Process() { end(0); }

  Answer ask(Ask ask, CUdeviceptr address = 0, std::uint64_t value = 0,
             const CUipcMemHandle& handle = {}) const {
    const Request request{ask, address, value, handle};
    Answer answer;
    EXPECT_EQ(write(to_, &request, sizeof request), static_cast<ssize_t>(sizeof request));
    EXPECT_EQ(read(from_, &answer, sizeof answer), static_cast<ssize_t>(sizeof answer));
    return answer;
  }
  Answer open(const CUipcMemHandle& handle) const { return ask(Ask::kOpen, 0, 0, handle); }

  void end(int signal) {
    if (pid_ == 0) return;
    close(to_);
    if (signal != 0) kill(pid_, signal);
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    if (signal == 0) {
      EXPECT_EQ(status, 0);
    }
    close(from_);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
  int to_ = -1;
  int from_ = -1;
};

class FakeCudaProcesses : public FakeCuda {
 protected:
  // Memory of the other process, and its handle.
  CUdeviceptr exported(CUipcMemHandle& handle, std::size_t bytes = 8192) {
    const CUdeviceptr theirs = other.ask(Ask::kAllocate, 0, bytes).address;
    const Answer answer = other.ask(Ask::kExport, theirs + 100);
    EXPECT_EQ(answer.error, CUDA_SUCCESS);
    handle = answer.handle;
    return theirs;
  }
  static CUresult open(const CUipcMemHandle& handle, CUdeviceptr& opened) {
    return cuda().cuIpcOpenMemHandle(&opened, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  }

  Process other;
};

TEST_F(FakeCudaProcesses, MemoryIsSharedFromTheBaseOfItsAllocation) {
  CUipcMemHandle handle{};
  const CUdeviceptr theirs = exported(handle);
  CUdeviceptr here = 0;
  ASSERT_EQ(open(handle, here), CUDA_SUCCESS);
  const Attributes found = attributes_of(here + 8);
  EXPECT_EQ(found.type, CU_MEMORYTYPE_DEVICE);
  EXPECT_EQ(found.start, here);
  EXPECT_EQ(found.bytes, 8192u);
  EXPECT_FALSE(found.ipc);
  other.ask(Ask::kWrite, theirs + 8, 42);
  std::uint32_t seen = 0;
  EXPECT_EQ(cuda().cuMemcpyAsync(address(&seen), here + 8, 4, nullptr), CUDA_SUCCESS);
  EXPECT_EQ(seen, 42u);
  EXPECT_EQ(cuda().cuIpcGetMemHandle(&handle, here), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuda().cuMemFree(here), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(FakeCudaProcesses, OpenTwiceIsOneMappingClosedTwice) {
  CUipcMemHandle handle{};
  exported(handle);
  CUdeviceptr first = 0;
  CUdeviceptr second = 0;
  ASSERT_EQ(open(handle, first), CUDA_SUCCESS);
  ASSERT_EQ(open(handle, second), CUDA_SUCCESS);
  EXPECT_EQ(first, second);
  EXPECT_EQ(cuda().cuIpcCloseMemHandle(first), CUDA_SUCCESS);
  EXPECT_EQ(fake_cuda_imports(), 1u);
  EXPECT_EQ(cuda().cuIpcCloseMemHandle(first), CUDA_SUCCESS);
  EXPECT_EQ(fake_cuda_imports(), 0u);
  EXPECT_EQ(cuda().cuIpcCloseMemHandle(first), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(FakeCudaProcesses, AProcessDoesNotOpenItsOwn) {
  const CUdeviceptr mine = allocate(64);
  CUipcMemHandle handle{};
  ASSERT_EQ(cuda().cuIpcGetMemHandle(&handle, mine), CUDA_SUCCESS);
  CUdeviceptr opened = 0;
  EXPECT_EQ(open(handle, opened), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_EQ(other.open(handle).error, CUDA_SUCCESS);
  EXPECT_EQ(cuda().cuIpcGetMemHandle(&handle, fake_cuda_alloc_pool(64)), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(FakeCudaProcesses, WhatWasFreedCannotBeOpenedButStaysOpen) {
  CUipcMemHandle handle{};
  const CUdeviceptr theirs = exported(handle);
  CUdeviceptr here = 0;
  ASSERT_EQ(open(handle, here), CUDA_SUCCESS);
  other.ask(Ask::kWrite, theirs, 7);
  EXPECT_EQ(other.ask(Ask::kFree, theirs).error, CUDA_SUCCESS);
  // The same address and size, perhaps the same descriptor: another memory all the same.
  EXPECT_EQ(other.ask(Ask::kAllocate, 0, 8192).address, theirs);
  other.ask(Ask::kWrite, theirs, 8);
  EXPECT_EQ(load(fake_cuda_bytes(here)), 7u);
  EXPECT_EQ(cuda().cuIpcCloseMemHandle(here), CUDA_SUCCESS);
  EXPECT_EQ(open(handle, here), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(FakeCudaProcesses, AddressesOfAnotherProcessAreOpenOnce) {
  CUipcMemHandle handle{};
  const CUdeviceptr theirs = exported(handle);
  CUdeviceptr stale = 0;
  CUdeviceptr fresh = 0;
  ASSERT_EQ(open(handle, stale), CUDA_SUCCESS);
  other.ask(Ask::kFree, theirs);
  ASSERT_EQ(exported(handle), theirs);
  EXPECT_EQ(open(handle, fresh), CUDA_ERROR_ALREADY_MAPPED);
  EXPECT_EQ(cuda().cuIpcCloseMemHandle(stale), CUDA_SUCCESS);
  EXPECT_EQ(open(handle, fresh), CUDA_SUCCESS);
}

TEST_F(FakeCudaProcesses, AnExporterThatDiedLeavesWhatIsOpen) {
  CUipcMemHandle handle{};
  CUipcMemHandle never_opened{};
  const CUdeviceptr theirs = exported(handle);
  exported(never_opened);
  CUdeviceptr here = 0;
  ASSERT_EQ(open(handle, here), CUDA_SUCCESS);
  other.ask(Ask::kWrite, theirs, 9);
  other.end(SIGKILL);
  EXPECT_EQ(load(fake_cuda_bytes(here)), 9u);
  CUdeviceptr opened = 0;
  EXPECT_EQ(open(never_opened, opened), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(FakeCudaProcesses, AStreamWaitsForAWordThatAnotherProcessWrites) {
  CUipcMemHandle handle{};
  const CUdeviceptr theirs = exported(handle);
  CUdeviceptr here = 0;
  ASSERT_EQ(open(handle, here), CUDA_SUCCESS);
  EXPECT_EQ(other.ask(Ask::kWaitAndCopy, theirs, 5).error, CUDA_SUCCESS);
  const CUstream s = stream();
  EXPECT_EQ(cuda().cuStreamWriteValue32(s, here, 5, 0), CUDA_SUCCESS);
  EXPECT_TRUE(soon([&] { return load(fake_cuda_bytes(here + 4)) == 5; }));
}

}  // namespace
}  // namespace mooncake_mpi::fake_cuda_test
