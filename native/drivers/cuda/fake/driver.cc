// What every call of the fake driver does first: it is counted, delayed and failed as a test asked,
// and refused where the process has not what it needs. Any thread. In a child of fork nothing works
// when the parent had initialised it, as with the real one.
#include "drivers/cuda/fake/driver.h"

#include <pthread.h>

#include <type_traits>

namespace mooncake_mpi::cuda_driver::fake {
namespace {

std::atomic<bool> forked = false;

// What may do more than it says, such as wait for a device, and so is no part of a capture.
bool is_unsafe_in_capture(Function function) {
  switch (function) {
    case Function::cuMemAlloc:
    case Function::cuMemFree:
    case Function::cuMemHostAlloc:
    case Function::cuMemFreeHost:
    case Function::cuStreamQuery:
    case Function::cuStreamSynchronize:
    case Function::cuEventQuery:
    case Function::cuEventSynchronize:
    case Function::cuCtxSynchronize:
    case Function::cuIpcGetMemHandle:
    case Function::cuIpcOpenMemHandle:
    case Function::cuIpcCloseMemHandle:
    case Function::cuModuleLoadData:
      return true;
    default:
      return false;
  }
}

// `state` alone: a call that blocks holds the other for long. The child's calls take neither.
void before_fork() {
  driver().state.lock();
}

void after_fork_in_parent() {
  driver().state.unlock();
}

void after_fork_in_child() {
  if (driver().initialised) forked = true;
  driver().in_call = 0;
  driver().state.unlock();
}

}  // namespace

const std::array<const char*, kFunctions> kFunctionNames = {
#define MOONCAKE_MPI_FAKE_CUDA_NAME(name, ...) #name,
    MOONCAKE_MPI_CUDA_FUNCTIONS(MOONCAKE_MPI_FAKE_CUDA_NAME)
        MOONCAKE_MPI_CUDA_LATER_FUNCTIONS(MOONCAKE_MPI_FAKE_CUDA_NAME)
            MOONCAKE_MPI_FAKE_CUDA_MORE(MOONCAKE_MPI_FAKE_CUDA_NAME)
#undef MOONCAKE_MPI_FAKE_CUDA_NAME
};

const std::array<void*, kFunctions> kFunctionAddresses = {
#define MOONCAKE_MPI_FAKE_CUDA_ADDRESS(name, ...) reinterpret_cast<void*>(&name),
    MOONCAKE_MPI_CUDA_FUNCTIONS(MOONCAKE_MPI_FAKE_CUDA_ADDRESS)
        MOONCAKE_MPI_CUDA_LATER_FUNCTIONS(MOONCAKE_MPI_FAKE_CUDA_ADDRESS)
            MOONCAKE_MPI_FAKE_CUDA_MORE(MOONCAKE_MPI_FAKE_CUDA_ADDRESS)
#undef MOONCAKE_MPI_FAKE_CUDA_ADDRESS
};

std::size_t function_number(std::string_view name) {
  for (std::size_t i = 0; i < kFunctions; ++i) {
    if (name == kFunctionNames[i]) return i;
  }
  return kFunctions;
}

Driver& driver() {
  static Driver* const one = [] {
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    return new Driver;
  }();
  return *one;
}

ContextStack& context_stack() {
  static_assert(std::is_trivially_destructible_v<ContextStack>);
  thread_local ContextStack stack;
  return stack;
}

CUstreamCaptureMode& capture_mode() {
  thread_local CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  return mode;
}

bool& calling_host() {
  thread_local bool calling = false;
  return calling;
}

Device* Driver::device_of(CUcontext context) {
  for (const auto& device : devices) {
    if (device->context == context) return device.get();
  }
  return nullptr;
}

Device* Driver::device_at(CUdevice ordinal) {
  if (ordinal < 0 || static_cast<std::size_t>(ordinal) >= devices.size()) return nullptr;
  return devices[static_cast<std::size_t>(ordinal)].get();
}

Call::Call(Function function, Needs needs) : driver_(fake::driver()) {
  driver_.in_call.fetch_add(1);
  if (forked) {
    error_ = needs == Needs::kNothing && function != Function::cuInit ? CUDA_SUCCESS
                                                                      : CUDA_ERROR_NOT_INITIALIZED;
    return;
  }
  Fault& fault = driver_.faults[static_cast<std::size_t>(function)];
  unsigned delay = 0;
  {
    const Lock lock(driver_.state);
    ++fault.calls;
    delay = fault.delay_us;
  }
  if (delay != 0) std::this_thread::sleep_for(std::chrono::microseconds(delay));
  call_ = Lock(driver_.call);
  state_ = Lock(driver_.state);
  error_ = check(function, needs);
}

Call::~Call() {
  if (state_.owns_lock()) state_.unlock();
  if (call_.owns_lock()) call_.unlock();
  driver_.in_call.fetch_sub(1);
}

CUresult Call::check(Function function, Needs needs) {
  Fault& fault = driver_.faults[static_cast<std::size_t>(function)];
  if (fault.times != 0) {
    if (fault.skip > 0) {
      --fault.skip;
    } else {
      if (fault.times > 0) --fault.times;
      return fault.error;
    }
  }
  if (needs == Needs::kNothing) return CUDA_SUCCESS;
  if (calling_host()) return CUDA_ERROR_NOT_PERMITTED;
  if (!driver_.initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (!context_stack().empty()) device_ = driver_.device_of(context_stack().top());
  if (needs == Needs::kDriver) return CUDA_SUCCESS;
  if (is_unsafe_in_capture(function)) {
    if (const CUresult error = disturb_captures(driver_); error != CUDA_SUCCESS) return error;
  }
  if (driver_.broken != CUDA_SUCCESS) return driver_.broken;
  if (needs == Needs::kHealthy) return CUDA_SUCCESS;
  if (device_ == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  return device_->retained == 0 ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_SUCCESS;
}

}  // namespace mooncake_mpi::cuda_driver::fake
