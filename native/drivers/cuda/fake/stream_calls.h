// What the calls that take a stream share.
#pragma once

#include "drivers/cuda/fake/queue.h"

namespace mooncake_mpi::cuda_driver::fake {

// CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, which nobody asks for by name.
inline constexpr auto kStreamCaptureImplicit = static_cast<CUresult>(906);

// Finds the stream that a call was given; the legacy and per-thread streams need a context.
CUresult stream_of(Call& call, CUstream handle, std::shared_ptr<Stream>& stream);

// This library's own, as functions of the host. Without the state's lock.
void define_library_kernels();

}  // namespace mooncake_mpi::cuda_driver::fake
