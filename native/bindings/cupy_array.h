#pragma once

#include <Python.h>

#include <optional>

#include "bindings/array_interface.h"

namespace mooncake_mpi::bindings {

// An array of exactly CuPy's class, read by its attributes: the dict of its
// `__cuda_array_interface__`, with numpy's description of the type, takes longer than a small
// message. Nothing where it is not one, has gaps, or is not of numbers; with a Python error only
// where a signal's handler raised it. GIL held.
std::optional<DescribedArray> read_cupy_array(PyObject* object);

}  // namespace mooncake_mpi::bindings
