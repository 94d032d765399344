// The device of a message in the order of a stream, as the driver knows it. Any thread; calls the
// driver.
#pragma once

#include "memory/cuda/gpu_memory.h"

namespace mooncake_mpi::bindings {

// What a call names, with the driver's answers.
struct Place {
  cuda_driver::Allocation allocation;  // of an array
  int device = -1;
  bool captured = false;  // the stream is being captured
};

Result<Place> place_of(cuda::GpuMemory& memory, const Buffer& buffer,
                       cuda_driver::StreamHandle stream);

}  // namespace mooncake_mpi::bindings
