#pragma once

namespace mooncake_mpi::bindings {

// From now on a child that a fork makes of this process has no part in its communicators: every
// call raises, and nothing of the child reaches the memory that the parent shares with its peers.
void guard_forks();

// How such a child ends, which leaves before MPI is finalised.
void set_exit_status(int status) noexcept;

// Whether this process is such a child.
bool left_behind() noexcept;

inline constexpr const char* kLeftBehind =
    "invalid communicator: this process was forked from one that communicates and has no part in "
    "its "
    "communicators; start processes with spawn or MPI.Comm.Spawn instead";

}  // namespace mooncake_mpi::bindings
