// Arrays in the memory of GPUs: what they say of themselves, and what the CUDA driver says of an
// address. With the interpreter's lock (GIL) held.
#include "bindings/device_array.h"

#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "bindings/array_interface.h"
#include "bindings/cupy_array.h"
#include "bindings/interpreter_lock.h"
#include "bindings/module.h"
#include "bindings/runtime.h"
#include "memory/cuda/gpu_memory.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

PyObject* interface_name() {
  static PyObject* const name = PyUnicode_InternFromString("__cuda_array_interface__");
  return name;
}

}  // namespace

Result<cuda::GpuMemory*> gpu_memory() {
  static cuda::GpuMemory* known = nullptr;
  if (known != nullptr) return known;
  Engine* engine = runtime().engine.get();
  std::string library = engine != nullptr ? engine->config().settings.text("cuda_library") : "";
  if (library.empty()) library = "libcuda.so.1";
  auto memory = cuda::gpu_memory(library);
  if (!memory || engine == nullptr) return memory;
  known = memory.value();
  engine->set_device_work(known->queue());
  if (engine->config().settings.number("gpu_latency").value_or(0) != 0) {
    cuda::Resident::allow(true);
  }
  return known;
}

Result<Buffer> device_buffer(std::uint64_t address, std::uint64_t bytes, std::uintptr_t stream) {
  constexpr std::uintptr_t kLegacyStream = 1;
  if (bytes == 0) return Buffer{.stream = stream != 0 ? stream : kLegacyStream};
  auto memory = gpu_memory();
  if (!memory) return memory.failure();
  auto found = memory.value()->describe(reinterpret_cast<std::byte*>(address), bytes, stream);
  if (found && found.value().device == nullptr) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(address));
    return Failure{Error::kBuffer, std::string("no GPU memory (any more) at ") + text};
  }
  return found;
}

bool is_cuda_array_type(PyTypeObject* type) {
  // The latest of each kind, which are most.
  static PyTypeObject* with = nullptr;
  static PyTypeObject* without = nullptr;
  if (type == with) return true;
  if (type == without) return false;
  const bool found = with_interpreter(
      [&] { return PyObject_HasAttr(reinterpret_cast<PyObject*>(type), interface_name()) != 0; });
  PyTypeObject*& latest = found ? with : without;
  Py_INCREF(reinterpret_cast<PyObject*>(type));
  Py_XDECREF(reinterpret_cast<PyObject*>(std::exchange(latest, type)));
  return found;
}

bool take_cuda_array(PyObject* object, bool writable, Buffer& buffer, Py_ssize_t& item_bytes) {
  if (PyList_CheckExact(object) || PyTuple_CheckExact(object) || object == Py_None) return false;
  std::optional<DescribedArray> array =
      with_interpreter([&] { return read_cupy_array(object); });  // is always writable
  if (!array) {
    if (PyErr_Occurred() != nullptr) return false;
    PyObject* interface =
        with_interpreter([&] { return PyObject_GetAttr(object, interface_name()); });
    if (interface == nullptr) {
      // An interrupt is not the object's answer.
      if (PyErr_ExceptionMatches(PyExc_Exception)) PyErr_Clear();
      return false;
    }
    array = read_array_interface(interface, writable);
    Py_DECREF(interface);
  }
  if (!array) return false;
  auto found = device_buffer(array->address, array->bytes, array->stream);
  if (!found) return false;  // the package says what is wrong, and with which argument
  buffer = found.value();
  item_bytes = array->item_bytes;
  return true;
}

void define_device_array(nb::module_& m) {
  m.def(
      "allow_gpu_latency", [](bool on) { cuda::Resident::allow(on); }, "on"_a,
      "Let a block of a kernel stay on the GPUs while small messages follow each other closely; "
      "each True needs its False.");
}

}  // namespace mooncake_mpi::bindings
