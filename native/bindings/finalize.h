#pragma once

namespace mooncake_mpi::bindings {

// Delivers what was sent, for as long as the receivers live or the settings allow; MPI is about to
// be finalised. Says on standard error what it waits for after a while, and what is lost. False
// with a Python exception set when a signal's handler raised one. Again does nothing.
bool finalize_engine();
// The same when the interpreter has ended: after the program's own exit functions, and before
// mpi4py finalises MPI.
void finalize_at_exit();

}  // namespace mooncake_mpi::bindings
