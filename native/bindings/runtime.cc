// Exceptions of the package and mpi4py's statuses, as C++ raises and fills them. With the
// interpreter's lock (GIL) held.
#include "bindings/runtime.h"

#include "bindings/interpreter_lock.h"

namespace mooncake_mpi::bindings {

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

namespace {

// The exception in flight, taken off, where it is an error of the package; nullptr otherwise.
class CaughtError {
 public:
  CaughtError() {
    PyObject* expected = runtime().hooks.error_type;
    if (expected == nullptr || PyErr_ExceptionMatches(expected) == 0) return;
    PyErr_Fetch(&type_, &value_, &traceback_);
    PyErr_NormalizeException(&type_, &value_, &traceback_);
  }
  ~CaughtError() {
    if (value_ == nullptr) return;
    if (PyErr_Occurred()) {
      Py_XDECREF(type_);
      Py_XDECREF(value_);
      Py_XDECREF(traceback_);
    } else {
      PyErr_Restore(type_, value_, traceback_);
    }
  }
  CaughtError(const CaughtError&) = delete;
  CaughtError& operator=(const CaughtError&) = delete;
  PyObject* value() const noexcept { return value_; }

 private:
  PyObject* type_ = nullptr;
  PyObject* value_ = nullptr;
  PyObject* traceback_ = nullptr;
};

void set_number(PyObject* object, const char* name, long value) {
  PyObject* number = PyLong_FromLong(value);
  if (number == nullptr) return;
  PyObject_SetAttrString(object, name, number);
  Py_DECREF(number);
}

}  // namespace

void set_error_context(std::uint32_t context, Error cause) {
  const CaughtError error;
  if (error.value() == nullptr) return;
  set_number(error.value(), "context", static_cast<long>(context));
  if (cause != Error::kNone) {
    set_number(error.value(), "code_of_request",
               runtime().constants.error_classes[static_cast<std::size_t>(cause)]);
  }
}

void report_error(PyObject* source) {
  const CaughtError error;
  if (error.value() == nullptr) return;
  PyObject* result = with_interpreter([&] {
    return PyObject_CallFunctionObjArgs(runtime().hooks.report_error, error.value(), source,
                                        nullptr);
  });
  Py_XDECREF(result);
}

bool check_given_status(PyObject* status) {
  auto* expected = reinterpret_cast<PyTypeObject*>(runtime().hooks.status_type);
  if (PyObject_TypeCheck(status, expected)) return true;
  PyErr_Format(PyExc_TypeError, "Argument 'status' has incorrect type (expected %R, got %R)",
               expected, Py_TYPE(status));
  return false;
}

bool fill_given_status(PyObject* status, const Completion& completion) {
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
