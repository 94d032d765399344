#pragma once

namespace mooncake_mpi {
class Engine;
}

namespace mooncake_mpi::bindings {

// From now on the program is warned, by the package, when large messages between GPUs of this node
// take a longer way than they could. Before the engine has messages.
void warn_of_detours(Engine& engine);

}  // namespace mooncake_mpi::bindings
