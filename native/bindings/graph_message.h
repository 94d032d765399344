#pragma once

#include <Python.h>

#include <atomic>
#include <memory>
#include <string>

#include "bindings/communicator.h"
#include "memory/cuda/gpu_memory.h"

namespace mooncake_mpi::bindings {

// A message that is part of a CUDA graph: each time that the graph comes to it the driver calls a
// function of the host, which posts it anew. For good, since nobody says when a graph is gone.
class GraphMessage final : private CompletionWatch {
 public:
  using Way = cuda::StreamEnd::Way;

  // Gives it to a stream that is being captured. Without the GIL; calls the driver.
  static Result<bool> capture(cuda::GpuMemory& memory, Way way, ContextHold hold, int rank, int tag,
                              const Buffer& buffer, int device, cuda_driver::StreamHandle stream);
  // The engine is at its end: no graph waits for messages any more.
  static void end_all() noexcept;

 private:
  GraphMessage(cuda::GpuMemory& memory, Way way, ContextHold hold, int rank, int tag) noexcept
      : memory_(memory), way_(way), hold_(std::move(hold)), rank_(rank), tag_(tag) {}
  Result<bool> give_to(cuda_driver::StreamHandle stream, int device, const Buffer& buffer);
  static void run(void* self) noexcept { static_cast<GraphMessage*>(self)->post(); }
  void post() noexcept;
  void close() noexcept;
  void open() noexcept;
  void on_done() noexcept override { open(); }

  cuda::GpuMemory& memory_;
  Way way_;
  ContextHold hold_;
  int rank_;
  int tag_;
  std::shared_ptr<cuda::Block> block_;  // stands for the array
  Buffer host_;
  std::atomic<std::uint32_t>* word_ = nullptr;  // 1: the stream goes on
  std::atomic<std::uint64_t> closed_{0};        // the number of its wait; 0: none
};

// The failure of a message that nobody has a request for.
void tell_of_failure(std::uint32_t context, Error error, std::string reason) noexcept;

}  // namespace mooncake_mpi::bindings
