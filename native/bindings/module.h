#pragma once

#include <nanobind/nanobind.h>

namespace mooncake_mpi::bindings {

// The parts of the extension module: each defines its classes and functions.

// A communicator's context in the engine.
void define_communicator(nanobind::module_& m);
// The engine's start, progress and end.
void define_lifecycle(nanobind::module_& m);
// What the package gives the extension at import: callables and values,
void define_hooks(nanobind::module_& m);
// and what objects of other packages look like in memory.
void define_layouts(nanobind::module_& m);
// Operations that the package starts: for objects, partitioned operations, agreements.
void define_sends(nanobind::module_& m);
void define_receives(nanobind::module_& m);
// Several of the program's at once.
void define_batch(nanobind::module_& m);
// Blocking calls of the package, whose messages are objects.
void define_objects(nanobind::module_& m);
void define_matched_messages(nanobind::module_& m);
void define_requests(nanobind::module_& m);
// What the MPI library calls.
void define_library_callbacks(nanobind::module_& m);
void define_pickle_buffers(nanobind::module_& m);
// What looks at the engine and its lanes, and changes nothing.
void define_inspection(nanobind::module_& m);
void define_lane_inspection(nanobind::module_& m);
void define_transfers(nanobind::module_& m);
// Jobs that are not there, for measuring.
void define_simulation(nanobind::module_& m);
// Memory made for messages, as Python sees it, and the same behind NumPy's arrays (NEP 49).
void define_shared_memory(nanobind::module_& m);
void define_stream_order(nanobind::module_& m);
void define_stream_waits(nanobind::module_& m);
void define_gpu_rows(nanobind::module_& m);
void define_device_array(nanobind::module_& m);
void define_numpy_handler(nanobind::module_& m);

}  // namespace mooncake_mpi::bindings
