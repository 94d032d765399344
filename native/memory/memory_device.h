#pragma once

#include <memory>

#include "base/result.h"
#include "memory/buffer.h"
#include "memory/sink.h"
#include "memory/source.h"

namespace mooncake_mpi {

// Memory that the processor does not load or store, such as a GPU's. Engine lock held for every
// call.
class MemoryDevice {
 public:
  virtual ~MemoryDevice() = default;
  // What brings the bytes of such a buffer to the host, and what takes them from there.
  virtual Result<std::unique_ptr<Source>> source(const Buffer& buffer) = 0;
  virtual Result<std::unique_ptr<Sink>> sink(const Buffer& buffer) = 0;
};

}  // namespace mooncake_mpi
