#pragma once

#include <Python.h>

#include <array>
#include <cstdint>
#include <memory>

#include "bindings/status_layout.h"
#include "engine/engine.h"

namespace mooncake_mpi::bindings {

// Python callables that the bindings need; set once by the package at import.
struct Hooks {
  PyObject* resolve = nullptr;
  PyObject* fill_status = nullptr;
  PyObject* raise_error = nullptr;
  PyObject* report_error = nullptr;
  PyObject* error_type = nullptr;
  PyObject* look_in_library = nullptr;
  PyObject* wait_all = nullptr;
  PyObject* request_type = nullptr;
  PyObject* persistent_type = nullptr;
  PyObject* status_type = nullptr;
  PyObject* warn_of_detour = nullptr;
};

// Values that MPI libraries choose differently.
struct Constants {
  int proc_null = -2;
  int any_source = -1;
  int any_tag = -1;
  std::array<int, kErrors> error_classes{};
};

// What the extension module holds for the process. Guarded by the GIL.
struct Runtime {
  std::unique_ptr<Engine> engine;
  Hooks hooks;
  Constants constants;
  StatusLayout status_layout;
};

// Outlives the interpreter: nothing may be released after it.
inline Runtime* const the_runtime = new Runtime;
inline Runtime& runtime() noexcept {
  return *the_runtime;
}

// The engine will not touch the operation any more.
inline bool is_finished(const Operation& operation) noexcept {
  return operation.done.load(std::memory_order_acquire) == Operation::kFinished;
}

// A failure of the engine on its way out of C++, where it becomes the package's error.
class EngineFailure : public std::exception {
 public:
  explicit EngineFailure(Failure failure) : failure_(std::move(failure)) {}
  const char* what() const noexcept override { return failure_.message.c_str(); }
  Error error() const noexcept { return failure_.error; }

 private:
  Failure failure_;
};

template <class T>
T value_or_throw(Result<T> result) {
  if (!result) [[unlikely]]
    throw EngineFailure(result.failure());
  return std::move(result).value();
}

// Raises what the package makes of an error; always returns nullptr.
PyObject* raise_error(Error error, const char* message);
PyObject* raise_error(const char* name, const char* message);
// Where the exception in flight is an error of the package: says which communicator it belongs to
// (0: not known), and of an error that stands for another one's, which.
void set_error_context(std::uint32_t context, Error cause = Error::kNone);
// Where it is: takes it to the error handler; what that raises, if anything, replaces it.
void report_error(PyObject* source);

// Whether an argument is an mpi4py Status, None or not given; false with TypeError raised.
bool check_given_status(PyObject* status);
inline bool check_status(PyObject* status) {
  return status == nullptr || status == Py_None || check_given_status(status);
}
// Fills an mpi4py Status; false with a Python error set. `status` may be nullptr or None.
bool fill_given_status(PyObject* status, const Completion& completion);
inline bool fill_status(PyObject* status, const Completion& completion) {
  return status == nullptr || status == Py_None || fill_given_status(status, completion);
}

}  // namespace mooncake_mpi::bindings
