// The devices' primary contexts and each thread's stack of them. The end of the last reference ends
// all that was made in the context, as with the real one.
#include <algorithm>

#include "drivers/cuda/fake/memory.h"
#include "drivers/cuda/fake/queue.h"

namespace mooncake_mpi::cuda_driver::fake {
namespace {

void end(Call& call, Device& device) {
  Driver& driver = call.driver();
  drop(driver, device);
  // What runs already still needs its memory.
  call.block([&] { return !driver.running; });
  std::erase_if(driver.streams, [&](const auto& item) { return item.second->device == &device; });
  std::erase_if(driver.events,
                [&](const auto& item) { return item.second->context == device.context; });
  std::erase_if(driver.modules, [&](const auto& item) { return item.second == &device; });
  device.streams.clear();
  device.per_thread.clear();
  device.legacy.reset();
  device.peers.clear();
  end_memory(driver, device.context);
}

}  // namespace

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  Call call(Function::cuDevicePrimaryCtxRetain, Needs::kHealthy);
  if (call.failed()) return call.error();
  Device* found = call.driver().device_at(device);
  if (found == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  ++found->retained;
  *context = found->context;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  Call call(Function::cuDevicePrimaryCtxRelease, Needs::kDriver);
  if (call.failed()) return call.error();
  Device* found = call.driver().device_at(device);
  if (found == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (found->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
  if (--found->retained == 0) end(call, *found);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  Call call(Function::cuDevicePrimaryCtxGetState, Needs::kDriver);
  if (call.failed()) return call.error();
  const Device* found = call.driver().device_at(device);
  if (found == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *flags = 0;
  *active = found->retained > 0 ? 1 : 0;
  return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent(CUcontext context) {
  Call call(Function::cuCtxPushCurrent, Needs::kDriver);
  if (call.failed()) return call.error();
  const Device* found = call.driver().device_of(context);
  if (found == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (found->retained == 0) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  if (context_stack().full()) return CUDA_ERROR_OUT_OF_MEMORY;
  context_stack().push(context);
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext* context) {
  Call call(Function::cuCtxPopCurrent, Needs::kDriver);
  if (call.failed()) return call.error();
  auto& stack = context_stack();
  if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (context != nullptr) *context = stack.top();
  stack.pop();
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  Call call(Function::cuCtxGetCurrent, Needs::kDriver);
  if (call.failed()) return call.error();
  *context = context_stack().empty() ? nullptr : context_stack().top();
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
  Call call(Function::cuCtxGetDevice, Needs::kContext);
  if (call.failed()) return call.error();
  *device = call.device()->ordinal;
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  Call call(Function::cuCtxSetCurrent, Needs::kDriver);
  if (call.failed()) return call.error();
  auto& stack = context_stack();
  if (context != nullptr && call.driver().device_of(context) == nullptr) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  if (!stack.empty()) stack.pop();
  if (context != nullptr) stack.push(context);
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
  Call call(Function::cuCtxSynchronize, Needs::kContext);
  if (call.failed()) return call.error();
  return call.wait([&] {
    return std::ranges::all_of(call.device()->channels,
                               [](const Channel& channel) { return channel.queue.empty(); });
  });
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
  Call call(Function::cuCtxEnablePeerAccess, Needs::kContext);
  if (call.failed()) return call.error();
  const Device* found = call.driver().device_of(peer);
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (found == nullptr || found->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
  if (found == call.device()) return CUDA_ERROR_INVALID_DEVICE;
  if (call.driver().no_peer) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
  if (!call.device()->peers.insert(peer).second) return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
  return CUDA_SUCCESS;
}

}  // namespace mooncake_mpi::cuda_driver::fake
