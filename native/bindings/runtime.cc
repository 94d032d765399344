#include "bindings/runtime.h"

#include "bindings/interpreter_lock.h"

namespace mooncake_mpi::bindings {

Runtime& runtime() noexcept {
  static auto* instance =
      new Runtime;  // outlives the interpreter: nothing may be released after it
  return *instance;
}

PyObject* raise_error(const char* name, const char* message) {
  PyObject* hook = runtime().hooks.raise_error;
  if (hook == nullptr) {
    PyErr_Format(PyExc_RuntimeError, "%s: %s", name, message);
    return nullptr;
  }
  PyObject* result =
      with_interpreter([&] { return PyObject_CallFunction(hook, "ss", name, message); });
  Py_XDECREF(result);
  if (!PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, message);
  return nullptr;
}

PyObject* raise_error(Error error, const char* message) {
  return raise_error(error_name(error).data(), message);
}

bool check_status(PyObject* status) {
  if (status == nullptr || status == Py_None) return true;
  auto* expected = reinterpret_cast<PyTypeObject*>(runtime().hooks.status_type);
  if (PyObject_TypeCheck(status, expected)) return true;
  PyErr_Format(PyExc_TypeError, "Argument 'status' has incorrect type (expected %R, got %R)",
               expected, Py_TYPE(status));
  return false;
}

bool fill_status(PyObject* status, const Completion& completion) {
  if (status == nullptr || status == Py_None) return true;
  const int error_class =
      runtime().constants.error_classes[static_cast<std::size_t>(completion.error)];
  const StatusLayout& layout = runtime().status_layout;
  if (layout.known() && !completion.cancelled) {
    layout.write(status, completion.source, completion.tag, error_class, completion.bytes);
    return true;
  }
  PyObject* result = with_interpreter([&] {
    return PyObject_CallFunction(runtime().hooks.fill_status, "OiiiKi", status, completion.source,
                                 completion.tag, error_class,
                                 static_cast<unsigned long long>(completion.bytes),
                                 completion.cancelled ? 1 : 0);
  });
  Py_XDECREF(result);
  return result != nullptr;
}

}  // namespace mooncake_mpi::bindings
