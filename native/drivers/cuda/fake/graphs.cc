// Captures and the graphs that they make: one stream's operations in a row, as many times as a
// program launches them.
#include <algorithm>
#include <utility>

#include "drivers/cuda/fake/queue.h"
#include "drivers/cuda/fake/stream_calls.h"

namespace mooncake_mpi::cuda_driver::fake {

CUresult disturb_captures(Driver& driver) {
  if (capture_mode() == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
  CUresult error = CUDA_SUCCESS;
  for (const auto& capture : driver.captures) {
    const bool own = capture->thread == std::this_thread::get_id();
    const bool disturbed = own ? capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED
                               : capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                                     capture_mode() == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (!disturbed) continue;
    capture->invalidated = true;
    error = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return error;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
  Call call(Function::cuThreadExchangeStreamCaptureMode, Needs::kDriver);
  if (call.failed()) return call.error();
  std::swap(*mode, capture_mode());
  return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  Call call(Function::cuStreamBeginCapture, Needs::kHealthy);
  if (call.failed()) return call.error();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  // The legacy stream cannot be captured.
  if (found->handle == kLegacyStream) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (captures(*found)) return CUDA_ERROR_INVALID_VALUE;
  found->capture = std::make_shared<Capture>();
  found->capture->mode = mode;
  found->capture->thread = std::this_thread::get_id();
  found->capture->graph = std::make_shared<Graph>();
  call.driver().captures.push_back(found->capture);
  return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  Call call(Function::cuStreamEndCapture, Needs::kHealthy);
  if (call.failed()) return call.error();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  const auto capture = std::exchange(found->capture, nullptr);
  *graph = nullptr;
  if (capture == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::erase(call.driver().captures, capture);
  if (capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  *graph = call.driver().new_handle<CUgraph>();
  call.driver().graphs[*graph] = capture->graph;
  return CUDA_SUCCESS;
}

CUresult cuGraphInstantiate(CUgraphExec* exec, CUgraph graph, std::uint64_t flags) {
  Call call(Function::cuGraphInstantiate, Needs::kHealthy);
  if (call.failed()) return call.error();
  const auto found = call.driver().graphs.find(graph);
  if (found == call.driver().graphs.end() || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  *exec = call.driver().new_handle<CUgraphExec>();
  call.driver().graph_execs[*exec] = found->second;
  return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  Call call(Function::cuGraphLaunch, Needs::kHealthy);
  if (call.failed()) return call.error();
  const auto found = call.driver().graph_execs.find(exec);
  if (found == call.driver().graph_execs.end()) return CUDA_ERROR_INVALID_VALUE;
  std::shared_ptr<Stream> target;
  if (const CUresult error = stream_of(call, stream, target); error != CUDA_SUCCESS) return error;
  for (const Operation& operation : found->second->operations)
    submit(call.driver(), target, operation);
  return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  Call call(Function::cuGraphExecDestroy, Needs::kDriver);
  if (call.failed()) return call.error();
  return call.driver().graph_execs.erase(exec) == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
  Call call(Function::cuGraphDestroy, Needs::kDriver);
  if (call.failed()) return call.error();
  return call.driver().graphs.erase(graph) == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

}  // namespace mooncake_mpi::cuda_driver::fake
