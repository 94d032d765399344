#pragma once

#include <Python.h>

#include <exception>
#include <new>

#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {

// The edge between Python's C calls and C++: what a function throws becomes a Python exception.
// What is no std::exception passes, since the interpreter ends threads by unwinding their stacks.
template <auto kFunction, class... Arguments>
PyObject* guarded(Arguments... arguments) {
  try {
    return kFunction(arguments...);
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  } catch (const EngineFailure& failure) {
    return raise_error(failure.error(), failure.what());
  } catch (const std::exception& error) {
    return raise_error("ERR_OTHER", error.what());
  }
}

using FastFunction = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);

// What a PyMethodDef takes, with METH_FASTCALL | METH_KEYWORDS.
template <auto kFunction>
PyCFunction guarded_fast() noexcept {
  constexpr FastFunction call =
      guarded<kFunction, PyObject*, PyObject* const*, Py_ssize_t, PyObject*>;
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call));
}

// For the program's methods: an error of the package goes to the error handler of `self`, the
// communicator, or of the one that it belongs to, before it is raised.
template <auto kFunction, class... Arguments>
PyObject* reported(PyObject* self, Arguments... arguments) {
  PyObject* result = guarded<kFunction, PyObject*, Arguments...>(self, arguments...);
  if (result == nullptr) [[unlikely]]
    report_error(self);
  return result;
}

template <auto kFunction>
PyCFunction reported_fast() noexcept {
  constexpr FastFunction call = reported<kFunction, PyObject* const*, Py_ssize_t, PyObject*>;
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call));
}

}  // namespace mooncake_mpi::bindings
