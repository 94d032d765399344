#pragma once

#include <Python.h>

namespace mooncake_mpi::bindings {

// A reference to an object, if any, that is given back at its end. GIL held.
class Owned {
 public:
  explicit Owned(PyObject* object) noexcept : object_(object) {}
  ~Owned() { Py_XDECREF(object_); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  PyObject* get() const noexcept { return object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  // Of none there is none; else nullptr with a Python error where it is missing.
  Owned attribute(PyObject* name) const {
    return Owned(object_ == nullptr ? nullptr : PyObject_GetAttr(object_, name));
  }

 private:
  PyObject* object_;
};

}  // namespace mooncake_mpi::bindings
