#pragma once

namespace mooncake_mpi::bindings {

// From now on SIGUSR1 makes the engine explain itself, unless the program has a handler of its own
// or ignores the signal.
void answer_hang_signal();

}  // namespace mooncake_mpi::bindings
