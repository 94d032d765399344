#pragma once

#include <Python.h>

#include <array>
#include <cstddef>

namespace mooncake_mpi::bindings {

// The parameters of a method called with METH_FASTCALL | METH_KEYWORDS: names in order, the first
// `required` of them mandatory. Raises TypeError in the interpreter's words.
template <std::size_t kCount>
struct Signature {
  const char* method;
  std::array<const char*, kCount> names;
  std::size_t required;

  using Values = std::array<PyObject*, kCount>;  // borrowed; nullptr: not given

  bool parse(PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames, Values& values) const {
    values.fill(nullptr);
    if (static_cast<std::size_t>(nargs) > kCount) {
      PyErr_Format(PyExc_TypeError, "%s() takes at most %zu positional arguments (%zd given)",
                   method, kCount, nargs);
      return false;
    }
    for (Py_ssize_t i = 0; i < nargs; ++i)
      values[static_cast<std::size_t>(i)] = args[i];
    if (kwnames != nullptr && !parse_keywords(args + nargs, kwnames, values)) return false;
    for (std::size_t i = 0; i < required; ++i) {
      if (values[i] == nullptr) {
        PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s' (pos %zu)", method,
                     names[i], i + 1);
        return false;
      }
    }
    return true;
  }

 private:
  bool parse_keywords(PyObject* const* given, PyObject* kwnames, Values& values) const {
    const Py_ssize_t count = PyTuple_Size(kwnames);
    for (Py_ssize_t k = 0; k < count; ++k) {
      PyObject* name = PyTuple_GetItem(kwnames, k);
      std::size_t index = 0;
      while (index < kCount && PyUnicode_CompareWithASCIIString(name, names[index]) != 0)
        ++index;
      if (index == kCount) {
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", method, name);
        return false;
      }
      if (values[index] != nullptr) {
        PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'", method,
                     names[index]);
        return false;
      }
      values[index] = given[k];
    }
    return true;
  }
};

// What is no int, as mpi4py takes it: by its `__int__`, which floats have too, else by its
// `__index__`. A new reference, or nullptr with a Python error set.
[[gnu::cold, gnu::noinline]] inline PyObject* whole_number(PyObject* value) {
  const bool known = PyType_GetSlot(Py_TYPE(value), Py_nb_int) != nullptr;
  return known ? PyNumber_Long(value) : PyNumber_Index(value);
}

// An int from an argument; `fallback` when it was not given. False with a Python error set. A small
// message has two of them.
[[gnu::always_inline]] inline bool to_int(PyObject* value, int fallback, int& out) {
  if (value == nullptr) {
    out = fallback;
    return true;
  }
  long result;
  int overflow = 0;
  if (PyLong_Check(value)) [[likely]] {
    result = PyLong_AsLongAndOverflow(value, &overflow);
  } else {
    PyObject* number = whole_number(value);
    if (number == nullptr) return false;
    result = PyLong_AsLongAndOverflow(number, &overflow);
    Py_DECREF(number);
  }
  if (overflow != 0 || result < INT_MIN || result > INT_MAX) {
    PyErr_SetString(PyExc_OverflowError, "value too large to convert to int");
    return false;
  }
  out = static_cast<int>(result);
  return true;
}

}  // namespace mooncake_mpi::bindings
