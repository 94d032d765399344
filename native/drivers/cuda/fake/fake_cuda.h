// What tests ask of the fake libcuda: a driver for processes of one node without a GPU, in a shared
// library that is loaded as the real one is. In C, so that ctypes calls it too. Streams, contexts
// and addresses are the driver's handles. None of these counts as a driver call, and none waits for
// the driver's lock.
//
// The environment, read by cuInit:
//   MOONCAKE_MPI_FAKE_CUDA_DEVICES=2        physical devices; CUDA_VISIBLE_DEVICES chooses of them
//   MOONCAKE_MPI_FAKE_CUDA_NO_PEER=1        no device reaches another's memory
//   MOONCAKE_MPI_FAKE_CUDA_OPERATION_US=5   how long an operation of a stream takes
//   MOONCAKE_MPI_FAKE_CUDA_FAIL=function:error:skip:times,...   as fake_cuda_fail()
//   MOONCAKE_MPI_FAKE_CUDA_WITHOUT=function,...   what cuGetProcAddress does not find
//   CUDA_DEVICE_MAX_CONNECTIONS=8           hardware channels of a device
//   CUDA_MODULE_LOADING=EAGER               functions are loaded with their module
#pragma once

#include <cstddef>
#include <cstdint>

#define FAKE_CUDA_EXPORT extern "C" __attribute__((visibility("default")))

// Fails calls of `function` with `error`: so many pass first, so many fail; a negative number of
// times is all. Replaces what was said of the function before.
FAKE_CUDA_EXPORT void fake_cuda_fail(const char* function, int error, int skip, int times);
// Every call of `function` takes so long before it does anything.
FAKE_CUDA_EXPORT void fake_cuda_delay(const char* function, unsigned microseconds);
// How often `function` was called, calls that failed included; -1: no such function.
FAKE_CUDA_EXPORT long fake_cuda_calls(const char* function);
// Calls of all functions.
FAKE_CUDA_EXPORT long fake_cuda_all_calls();
// How many threads are inside a driver call.
FAKE_CUDA_EXPORT int fake_cuda_in_call();
// An error of the device: every later call fails with it, and what is queued is dropped.
FAKE_CUDA_EXPORT void fake_cuda_break(int error);
// No faults, delays, counts, holds and error of the device any more.
FAKE_CUDA_EXPORT void fake_cuda_reset();

// The visible devices with a context, a bit each.
FAKE_CUDA_EXPORT unsigned fake_cuda_contexts();
// Allocations of device memory, pinned memory and mappings of others' memory that are there.
FAKE_CUDA_EXPORT std::size_t fake_cuda_allocations();
FAKE_CUDA_EXPORT std::size_t fake_cuda_pinned();
FAKE_CUDA_EXPORT std::size_t fake_cuda_imports();
// Streams and events that were created and not destroyed.
FAKE_CUDA_EXPORT std::size_t fake_cuda_streams();
FAKE_CUDA_EXPORT std::size_t fake_cuda_events();

// One process may play several: handles of its own memory are opened as those of others are.
FAKE_CUDA_EXPORT void fake_cuda_open_own(int on);

// Memory of a pool, as cudaMallocAsync gives: no IPC. In the current context; 0: no context or no
// memory. cuMemFree frees it.
FAKE_CUDA_EXPORT std::uint64_t fake_cuda_alloc_pool(std::size_t bytes);
// Where the processor finds the bytes of device memory, while it is there; null: not the driver's.
FAKE_CUDA_EXPORT void* fake_cuda_bytes(std::uint64_t address);

// How long an operation takes from where it may run.
FAKE_CUDA_EXPORT void fake_cuda_operation_time(unsigned microseconds);
// Holds a stream's operations back, those of other streams of its channel go on; let_go runs the
// next n of them all the same.
FAKE_CUDA_EXPORT void fake_cuda_hold(void* stream, int on);
FAKE_CUDA_EXPORT void fake_cuda_let_go(void* stream, unsigned n);
// Operations of a stream that are not done; -1: no such stream.
FAKE_CUDA_EXPORT long fake_cuda_pending(void* stream);
// The hardware channel of a stream; -1: no such stream.
FAKE_CUDA_EXPORT int fake_cuda_channel(void* stream);
// The stream captures: what is put into it does not run.
FAKE_CUDA_EXPORT void fake_cuda_set_capturing(void* stream, int on);

struct fake_cuda_launch {
  unsigned grid[3];
  unsigned block[3];
  void** parameters;  // copies made at the launch
};

enum fake_cuda_outcome {
  FAKE_CUDA_DONE = 0,
  FAKE_CUDA_NOT_YET = 1,  // called again soon; its channel waits
  FAKE_CUDA_FAULT = 2,    // CUDA_ERROR_LAUNCH_FAILED, for good
};

// A kernel is a function of the host: run by the driver's thread as an operation of a stream. It
// reaches device memory through fake_cuda_bytes(), which is null for memory that was freed
// meanwhile, and makes no driver call.
using fake_cuda_kernel = int (*)(const fake_cuda_launch* launch, void* user);
FAKE_CUDA_EXPORT void fake_cuda_define_kernel(const char* name, fake_cuda_kernel function,
                                              void* user, const std::size_t* parameter_sizes,
                                              unsigned parameters);
