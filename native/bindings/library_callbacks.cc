// The functions of generalized requests, which the MPI library calls in any thread, without the
// interpreter's lock (GIL). What they call of the package is called until it has come to its end: a
// handler of a signal raises in the program, when the library's call is over.
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstdint>
#include <vector>

#include "bindings/interpreter_lock.h"
#include "bindings/interruptions.h"
#include "bindings/module.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

enum Function { kQuery, kFree, kCancel, kPoll, kWait, kFunctions };

std::array<PyObject*, kFunctions> functions{};

// `format` is that of the arguments. An exception is written to standard error, and is no success.
template <class... Arguments>
int call(Function function, const char* format, Arguments... arguments) {
  constexpr int kOther = -1;
  return with_interpreter([&] {
    const PyGILState_STATE state = PyGILState_Ensure();
    PyObject* type = nullptr;
    PyObject* value = nullptr;
    PyObject* traceback = nullptr;
    PyErr_Fetch(&type, &value, &traceback);  // a request may be dropped while one is on its way
    PyObject* callable = functions[function];
    notices().begin_callback();
    PyObject* result =
        call_whole([&] { return PyObject_CallFunction(callable, format, arguments...); });
    long code = result != nullptr ? PyLong_AsLong(result) : kOther;
    if (PyErr_Occurred()) {
      PyErr_WriteUnraisable(callable);
      code = kOther;
    }
    Py_XDECREF(result);
    notices().end_callback();
    PyErr_Restore(type, value, traceback);
    PyGILState_Release(state);
    return static_cast<int>(code);
  });
}

unsigned long long number(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer);
}

int query(void* state, void* status) {
  return call(kQuery, "KK", number(state), number(status));
}

int free_state(void* state) {
  return call(kFree, "K", number(state));
}

int cancel(void* state, int completed) {
  return call(kCancel, "Ki", number(state), completed);
}

int poll(void* state, void*) {
  return call(kPoll, "K", number(state));
}

int wait(int count, void** states, double, void*) {
  for (int i = 0; i < count; ++i) {
    const int code = call(kWait, "K", number(states[i]));
    if (code != 0) return code;
  }
  return 0;
}

template <class Result, class... Arguments>
std::uintptr_t address(Result (*function)(Arguments...)) {
  return reinterpret_cast<std::uintptr_t>(function);
}

std::vector<std::uintptr_t> library_callbacks(nb::callable on_query, nb::callable on_free,
                                              nb::callable on_cancel, nb::callable on_poll,
                                              nb::callable on_wait) {
  functions = {on_query.release().ptr(), on_free.release().ptr(), on_cancel.release().ptr(),
               on_poll.release().ptr(), on_wait.release().ptr()};
  return {address(&query), address(&free_state), address(&cancel), address(&poll), address(&wait)};
}

// None where somebody has the lock. In Python a handler of a signal could raise between the lock
// and what gives it back.
nb::object call_locked(nb::object lock, nb::callable function) {
  const nb::object acquired = nb::steal(PyObject_CallMethod(lock.ptr(), "acquire", "O", Py_False));
  if (!acquired.is_valid()) throw nb::python_error();
  if (acquired.ptr() != Py_True) return nb::none();
  const nb::object result = nb::steal(PyObject_CallNoArgs(function.ptr()));
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  Py_XDECREF(PyObject_CallMethod(lock.ptr(), "release", nullptr));
  PyErr_Restore(type, value, traceback);
  if (!result.is_valid()) throw nb::python_error();
  return result;
}

}  // namespace

void define_library_callbacks(nb::module_& m) {
  m.def("library_callbacks", &library_callbacks, "query"_a, "free"_a, "cancel"_a, "poll"_a,
        "wait"_a,
        nb::sig("def library_callbacks(query: Callable[[int, int], int], "
                "free: Callable[[int], int], cancel: Callable[[int, int], int], "
                "poll: Callable[[int], int], wait: Callable[[int], int]) -> list[int]"),
        "Addresses of the functions of generalized requests, which call these.");
  m.def("call_locked", &call_locked, "lock"_a, "function"_a,
        nb::sig("def call_locked(lock: Any, function: Callable[[], bool]) -> bool | None"),
        "Call a function with a lock held; None where it is held already.");
}

}  // namespace mooncake_mpi::bindings
