#pragma once

#include <memory>
#include <string>

#include "bindings/request.h"

namespace mooncake_mpi::bindings {

// The completion of an operation on PROC_NULL, and the empty status of a null request.
Completion proc_null_completion() noexcept;
Completion empty_completion() noexcept;

// Ends a request that is complete: fills the status, runs `finish`, releases the buffer. Returns
// the error of the operation, or kOther with a Python error set if a callable raised. A receive
// that was interrupted stays active: kProcessFailedPending.
Error finish_request(RequestObject& request, PyObject* status);
// What went wrong, naming the peer; `why` there is no path to it is said where it is known.
std::string completion_message(Error error, const Completion& completion,
                               const std::string* why = nullptr);
// Failed since there is no path to its peer.
inline bool has_no_path(const Completion& completion) noexcept {
  return completion.error == Error::kPathLost || completion.error == Error::kUnreachable;
}
// Ends such an operation, and says why.
[[gnu::cold]] PyObject* raise_path_lost(Operation& operation, PyObject* status);
// The same of a request's operation, in the words of who refused it if there are any.
std::string failure_message(const RequestObject& request, Error error);
// Raises the MPI exception for what finish_request() or a wait of another request returned.
PyObject* raise_completion_error(Error error, const Completion& completion,
                                 const std::string* why = nullptr);

}  // namespace mooncake_mpi::bindings
