#pragma once

#include <nanobind/nanobind.h>

namespace mooncake_mpi::bindings {

// Module functions that look at the engine and change nothing.
void define_inspection(nanobind::module_& m);

}  // namespace mooncake_mpi::bindings
