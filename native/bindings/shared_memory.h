#pragma once

#include <nanobind/nanobind.h>

namespace mooncake_mpi::bindings {

// Memory made for messages, as Python sees it.
void define_shared_memory(nanobind::module_& m);
// The same memory behind NumPy's arrays (NEP 49).
void define_numpy_handler(nanobind::module_& m);

}  // namespace mooncake_mpi::bindings
