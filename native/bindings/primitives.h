#pragma once

#include <nanobind/nanobind.h>

namespace mooncake_mpi::bindings {

// Module functions that post by address and length: for objects, partitioned operations, adapters.
void define_primitives(nanobind::module_& m);

}  // namespace mooncake_mpi::bindings
