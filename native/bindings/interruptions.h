#pragma once

// Exceptions that handlers of signals raise in Python code that nobody will ask again.

#include <Python.h>

#include <utility>

#include "bindings/notices.h"
#include "bindings/object_methods.h"

namespace mooncake_mpi::bindings {

// The exception that is set, which is not set any more.
inline PyObject* take_exception() noexcept {
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return value;
}

// Calls `function`, and again where a handler has raised in the middle of it: the program hears of
// that once it is done, as the code that runs here would be left by it again.
template <class Function>
PyObject* call_whole(Function&& function) {
  PyObject* interruption = nullptr;
  PyObject* result = function();
  while (result == nullptr && was_interrupted()) {
    PyObject* exception = take_exception();
    if (interruption == nullptr) {
      interruption = exception;
    } else {
      Py_XDECREF(exception);
    }
    result = function();
  }
  if (interruption != nullptr) notices().raise_later(interruption);
  return result;
}

}  // namespace mooncake_mpi::bindings
