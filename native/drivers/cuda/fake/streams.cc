// Calls that make, ask and wait for streams.
#include <algorithm>

#include "drivers/cuda/fake/queue.h"
#include "drivers/cuda/fake/stream_calls.h"

namespace mooncake_mpi::cuda_driver::fake {

CUresult stream_of(Call& call, CUstream handle, std::shared_ptr<Stream>& stream) {
  const bool needs_context =
      handle == nullptr || handle == kLegacyStream || handle == kPerThreadStream;
  if (needs_context && call.device() == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (needs_context && call.device()->retained == 0) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  stream = find_stream(call.driver(), call.device(), handle);
  return stream == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int /*priority*/) {
  Call call(Function::cuStreamCreateWithPriority, Needs::kContext);
  if (call.failed()) return call.error();
  if ((flags & ~CU_STREAM_NON_BLOCKING) != 0) return CUDA_ERROR_INVALID_VALUE;
  auto made = make_stream(call.driver(), *call.device(), (flags & CU_STREAM_NON_BLOCKING) == 0);
  *stream = made->handle;
  call.driver().streams[made->handle] = std::move(made);
  return CUDA_SUCCESS;
}

// What it was given still runs.
CUresult cuStreamDestroy(CUstream stream) {
  Call call(Function::cuStreamDestroy, Needs::kHealthy);
  if (call.failed()) return call.error();
  const auto found = call.driver().streams.find(stream);
  if (found == call.driver().streams.end()) return CUDA_ERROR_INVALID_HANDLE;
  found->second->destroyed = true;
  Device& device = *found->second->device;
  call.driver().streams.erase(found);
  forget_finished(device);
  return CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream stream) {
  Call call(Function::cuStreamQuery, Needs::kHealthy);
  if (call.failed()) return call.error();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  if (captures(*found)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  return idle(*found) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult cuStreamSynchronize(CUstream stream) {
  Call call(Function::cuStreamSynchronize, Needs::kHealthy);
  if (call.failed()) return call.error();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  if (captures(*found)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  const auto operations = unfinished(*found);
  return call.wait([&] {
    return std::ranges::all_of(operations,
                               [](const auto& operation) { return operation->finished; });
  });
}

// On the hardware's thread. What the function calls of the driver fails, as with the real one.
CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* argument) {
  Call call(Function::cuLaunchHostFunc, Needs::kHealthy);
  if (call.failed()) return call.error();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Operation operation;
  operation.run = [function, argument](Lock& lock) {
    lock.unlock();
    calling_host() = true;
    function(argument);
    calling_host() = false;
    lock.lock();
    return Outcome::kDone;
  };
  submit(call.driver(), found, std::move(operation));
  return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
  Call call(Function::cuStreamIsCapturing, Needs::kHealthy);
  if (call.failed()) return call.error();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  if (found->handle == kLegacyStream) {
    // It must not be used while a stream that works with it in turn captures.
    for (const auto& other : found->device->streams) {
      if (other->blocking && captures(*other)) return kStreamCaptureImplicit;
    }
  }
  const bool invalidated = found->capture != nullptr && found->capture->invalidated;
  *status = invalidated        ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
            : captures(*found) ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                               : CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext* context) {
  Call call(Function::cuStreamGetCtx, Needs::kHealthy);
  if (call.failed()) return call.error();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  *context = found->device->context;
  return CUDA_SUCCESS;
}

}  // namespace mooncake_mpi::cuda_driver::fake
