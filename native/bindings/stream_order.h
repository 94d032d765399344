#pragma once

namespace mooncake_mpi::bindings {

// The engine is at its end: streams of the program that wait for messages go on.
void open_all_gates() noexcept;

}  // namespace mooncake_mpi::bindings
