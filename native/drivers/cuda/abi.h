// The part of CUDA's driver interface that is used here: types and numbers as NVIDIA's reference of
// the driver API gives them, so that building needs no CUDA. Only drivers/cuda includes it, and the
// fake driver of the tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mooncake_mpi::cuda_driver {

using CUdevice = int;
using CUdeviceptr = std::uint64_t;
using CUcontext = struct CUctx_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUhostFn = void (*)(void*);

enum CUresult : int {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NOT_INITIALIZED = 3,
  CUDA_ERROR_DEINITIALIZED = 4,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_ALREADY_MAPPED = 208,
  CUDA_ERROR_PEER_ACCESS_UNSUPPORTED = 217,
  CUDA_ERROR_INVALID_HANDLE = 400,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_NOT_READY = 600,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED = 704,
  CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_NOT_PERMITTED = 800,
  CUDA_ERROR_NOT_SUPPORTED = 801,
  CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803,
  CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
  CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
  CUDA_ERROR_UNKNOWN = 999,
};

struct CUuuid {
  char bytes[16];
};

struct CUipcMemHandle {
  char reserved[64];
};

enum CUpointer_attribute : int {
  CU_POINTER_ATTRIBUTE_CONTEXT = 1,
  CU_POINTER_ATTRIBUTE_MEMORY_TYPE = 2,
  CU_POINTER_ATTRIBUTE_BUFFER_ID = 7,
  CU_POINTER_ATTRIBUTE_IS_MANAGED = 8,
  CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9,
  CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE = 10,
  CU_POINTER_ATTRIBUTE_RANGE_START_ADDR = 11,
  CU_POINTER_ATTRIBUTE_RANGE_SIZE = 12,
};

enum CUmemorytype : unsigned {
  CU_MEMORYTYPE_NONE = 0,
  CU_MEMORYTYPE_HOST = 1,
  CU_MEMORYTYPE_DEVICE = 2,
};

// Rows of a plane, from one place to another; pitches are the distances of rows in bytes.
struct CUDA_MEMCPY2D {
  std::size_t srcXInBytes;
  std::size_t srcY;
  CUmemorytype srcMemoryType;
  const void* srcHost;
  CUdeviceptr srcDevice;
  struct CUarray_st* srcArray;
  std::size_t srcPitch;
  std::size_t dstXInBytes;
  std::size_t dstY;
  CUmemorytype dstMemoryType;
  void* dstHost;
  CUdeviceptr dstDevice;
  struct CUarray_st* dstArray;
  std::size_t dstPitch;
  std::size_t WidthInBytes;
  std::size_t Height;
};
static_assert(sizeof(CUDA_MEMCPY2D) == 128);

enum CUstreamCaptureStatus : int {
  CU_STREAM_CAPTURE_STATUS_NONE = 0,
  CU_STREAM_CAPTURE_STATUS_ACTIVE = 1,
  CU_STREAM_CAPTURE_STATUS_INVALIDATED = 2,
};

// What calls that could disturb a capture a thread may make meanwhile.
enum CUstreamCaptureMode : int {
  CU_STREAM_CAPTURE_MODE_GLOBAL = 0,
  CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1,
  CU_STREAM_CAPTURE_MODE_RELAXED = 2,
};

struct CUmemLocation {
  int type;  // 1: a device; counts for managed memory alone
  int id;
};

// How the copies of a batch reach their ends.
struct CUmemcpyAttributes {
  int srcAccessOrder;
  CUmemLocation srcLocHint;
  CUmemLocation dstLocHint;
  unsigned flags;
};
static_assert(sizeof(CUmemcpyAttributes) == 24);
inline constexpr int CU_MEM_LOCATION_TYPE_DEVICE = 1;
inline constexpr int CU_MEMCPY_SRC_ACCESS_ORDER_STREAM = 1;

inline const CUstream kLegacyStream = reinterpret_cast<CUstream>(std::uintptr_t{1});
inline const CUstream kPerThreadStream = reinterpret_cast<CUstream>(std::uintptr_t{2});

inline constexpr unsigned CU_STREAM_NON_BLOCKING = 1;
inline constexpr unsigned CU_EVENT_DISABLE_TIMING = 2;
inline constexpr unsigned CU_MEMHOSTALLOC_PORTABLE = 1;
inline constexpr unsigned CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS = 1;
inline constexpr unsigned CU_STREAM_WAIT_VALUE_GEQ = 0;
inline constexpr unsigned CU_STREAM_WRITE_VALUE_DEFAULT = 0;

// One line a function: its name, as cuGetProcAddress knows it, and its parameters. Each returns a
// CUresult.
#define MOONCAKE_MPI_CUDA_FUNCTIONS(F)                                                            \
  F(cuInit, unsigned flags)                                                                       \
  F(cuDriverGetVersion, int* version)                                                             \
  F(cuGetErrorName, CUresult error, const char** name)                                            \
  F(cuGetErrorString, CUresult error, const char** text)                                          \
  F(cuDeviceGetCount, int* count)                                                                 \
  F(cuDeviceGet, CUdevice* device, int ordinal)                                                   \
  F(cuDeviceGetName, char* name, int length, CUdevice device)                                     \
  F(cuDeviceGetUuid, CUuuid* uuid, CUdevice device)                                               \
  F(cuDeviceCanAccessPeer, int* can, CUdevice device, CUdevice peer)                              \
  F(cuDevicePrimaryCtxRetain, CUcontext* context, CUdevice device)                                \
  F(cuDevicePrimaryCtxRelease, CUdevice device)                                                   \
  F(cuDevicePrimaryCtxGetState, CUdevice device, unsigned* flags, int* active)                    \
  F(cuCtxPushCurrent, CUcontext context)                                                          \
  F(cuCtxPopCurrent, CUcontext* context)                                                          \
  F(cuCtxGetCurrent, CUcontext* context)                                                          \
  F(cuCtxGetDevice, CUdevice* device)                                                             \
  F(cuCtxEnablePeerAccess, CUcontext peer, unsigned flags)                                        \
  F(cuPointerGetAttributes, unsigned count, CUpointer_attribute* attributes, void** data,         \
    CUdeviceptr address)                                                                          \
  F(cuMemAlloc, CUdeviceptr* address, std::size_t bytes)                                          \
  F(cuMemFree, CUdeviceptr address)                                                               \
  F(cuMemHostAlloc, void** address, std::size_t bytes, unsigned flags)                            \
  F(cuMemFreeHost, void* address)                                                                 \
  F(cuMemHostGetDevicePointer, CUdeviceptr* address, void* host, unsigned flags)                  \
  F(cuMemcpyAsync, CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream)          \
  F(cuMemcpy2DAsync, const CUDA_MEMCPY2D* copy, CUstream stream)                                  \
  F(cuStreamCreateWithPriority, CUstream* stream, unsigned flags, int priority)                   \
  F(cuStreamDestroy, CUstream stream)                                                             \
  F(cuStreamQuery, CUstream stream)                                                               \
  F(cuStreamSynchronize, CUstream stream)                                                         \
  F(cuStreamWaitEvent, CUstream stream, CUevent event, unsigned flags)                            \
  F(cuStreamIsCapturing, CUstream stream, CUstreamCaptureStatus* status)                          \
  F(cuThreadExchangeStreamCaptureMode, CUstreamCaptureMode* mode)                                 \
  F(cuStreamGetCtx, CUstream stream, CUcontext* context)                                          \
  F(cuStreamWaitValue32, CUstream stream, CUdeviceptr address, std::uint32_t value,               \
    unsigned flags)                                                                               \
  F(cuStreamWriteValue32, CUstream stream, CUdeviceptr address, std::uint32_t value,              \
    unsigned flags)                                                                               \
  F(cuLaunchHostFunc, CUstream stream, CUhostFn function, void* argument)                         \
  F(cuEventCreate, CUevent* event, unsigned flags)                                                \
  F(cuEventDestroy, CUevent event)                                                                \
  F(cuEventRecord, CUevent event, CUstream stream)                                                \
  F(cuEventQuery, CUevent event)                                                                  \
  F(cuIpcGetMemHandle, CUipcMemHandle* handle, CUdeviceptr address)                               \
  F(cuIpcOpenMemHandle, CUdeviceptr* address, CUipcMemHandle handle, unsigned flags)              \
  F(cuIpcCloseMemHandle, CUdeviceptr address)                                                     \
  F(cuModuleLoadData, CUmodule* module, const void* image)                                        \
  F(cuModuleGetFunction, CUfunction* function, CUmodule module, const char* name)                 \
  F(cuLaunchKernel, CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,       \
    unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, \
    void** parameters, void** extra)

// Those that a driver may be without, which is of CUDA 12, in the form that CUDA 13.0 has.
#define MOONCAKE_MPI_CUDA_LATER_FUNCTIONS(F)                                                       \
  F(cuMemcpyBatchAsync, CUdeviceptr* to, CUdeviceptr* from, std::size_t* bytes, std::size_t count, \
    CUmemcpyAttributes* attributes, std::size_t* begins, std::size_t attribute_count,              \
    CUstream stream)

}  // namespace mooncake_mpi::cuda_driver
