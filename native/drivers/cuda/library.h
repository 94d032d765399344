// libcuda as a table of functions, loaded when the first device buffer is met.
#pragma once

#include <string>

#include "base/result.h"
#include "drivers/cuda/abi.h"

namespace mooncake_mpi::cuda_driver {

struct Library {
#define MOONCAKE_MPI_CUDA_ENTRY(name, ...) CUresult (*name)(__VA_ARGS__) = nullptr;
  MOONCAKE_MPI_CUDA_FUNCTIONS(MOONCAKE_MPI_CUDA_ENTRY)
  MOONCAKE_MPI_CUDA_LATER_FUNCTIONS(MOONCAKE_MPI_CUDA_ENTRY)  // or nullptr
#undef MOONCAKE_MPI_CUDA_ENTRY

  // Initialised, with at least one device. Loaded once for the life of the process; `file` is what
  // dlopen takes. A failure is remembered, too: what is not there at first does not come later.
  static Result<const Library*> load(const std::string& file = "libcuda.so.1");

  std::string words(CUresult error) const;
};

}  // namespace mooncake_mpi::cuda_driver
