#pragma once

#include <Python.h>
#include <nanobind/nanobind.h>

#include <cstdint>

#include "base/result.h"
#include "memory/buffer.h"

namespace mooncake_mpi::cuda {
class GpuMemory;
}

namespace mooncake_mpi::bindings {

// Arrays in the memory of GPUs. GIL held for every call.

// `bytes` at `address`, which the program uses in the order of `stream`; refused where a GPU has no
// such memory. The first of these loads the CUDA driver.
Result<Buffer> device_buffer(std::uint64_t address, std::uint64_t bytes, std::uintptr_t stream);

// The memory of this process's GPUs, whose copies the engine makes from now on, or why there is
// none.
Result<cuda::GpuMemory*> gpu_memory();

// Whether arrays of that type say so, as a type.
bool is_cuda_array_type(PyTypeObject* type);

// True with `buffer` filled for an array in a GPU's memory that is shown by
// `__cuda_array_interface__`, in C order, of numbers (and writable, if asked for); the caller keeps
// a reference. False for whatever else: the package has to look.
bool take_cuda_array(PyObject* object, bool writable, Buffer& buffer, Py_ssize_t& item_bytes);

}  // namespace mooncake_mpi::bindings
