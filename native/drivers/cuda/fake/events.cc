// Events. One that was never recorded counts as done, and one that was recorded again stands for
// the last time.
#include "drivers/cuda/fake/stream_calls.h"

namespace mooncake_mpi::cuda_driver::fake {
namespace {

std::shared_ptr<Event> find(Driver& driver, CUevent event) {
  const auto found = driver.events.find(event);
  return found == driver.events.end() ? nullptr : found->second;
}

}  // namespace

CUresult cuEventCreate(CUevent* event, unsigned /*flags*/) {
  Call call(Function::cuEventCreate, Needs::kContext);
  if (call.failed()) return call.error();
  auto made = std::make_shared<Event>();
  made->context = call.device()->context;
  *event = call.driver().new_handle<CUevent>();
  call.driver().events[*event] = std::move(made);
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
  Call call(Function::cuEventDestroy, Needs::kHealthy);
  if (call.failed()) return call.error();
  return call.driver().events.erase(event) == 0 ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  Call call(Function::cuEventRecord, Needs::kHealthy);
  if (call.failed()) return call.error();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  const auto recorded = find(call.driver(), event);
  if (recorded == nullptr || recorded->context != found->device->context) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  Operation mark;
  mark.takes_time = false;
  mark.run = [](Lock&) { return Outcome::kDone; };
  recorded->recorded = submit(call.driver(), found, std::move(mark));
  return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent event) {
  Call call(Function::cuEventQuery, Needs::kHealthy);
  if (call.failed()) return call.error();
  const auto found = find(call.driver(), event);
  if (found == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return found->recorded == nullptr || found->recorded->finished ? CUDA_SUCCESS
                                                                 : CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent event) {
  Call call(Function::cuEventSynchronize, Needs::kHealthy);
  if (call.failed()) return call.error();
  const auto found = find(call.driver(), event);
  if (found == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const auto operation = found->recorded;
  return call.wait([&] { return operation == nullptr || operation->finished; });
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  Call call(Function::cuStreamWaitEvent, Needs::kHealthy);
  if (call.failed()) return call.error();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  const auto awaited = find(call.driver(), event);
  if (awaited == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (awaited->recorded == nullptr) return CUDA_SUCCESS;
  Operation wait;
  wait.takes_time = false;
  wait.run = [operation = awaited->recorded](Lock&) {
    return operation->finished ? Outcome::kDone : Outcome::kNotYet;
  };
  submit(call.driver(), found, std::move(wait));
  return CUDA_SUCCESS;
}

}  // namespace mooncake_mpi::cuda_driver::fake
