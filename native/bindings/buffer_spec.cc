#include "bindings/buffer_spec.h"

#include <unordered_map>

namespace mooncake_mpi::bindings {
namespace {

using Sizes = std::unordered_map<PyObject*, Py_ssize_t>;

// Objects are told apart by identity: each is kept alive, so that no other gets its address.
Sizes& sizes() noexcept {
  static auto* instance = new Sizes;
  return *instance;
}

}  // namespace

void learn_datatype(PyObject* datatype, Py_ssize_t size) {
  if (sizes().try_emplace(datatype, size).second) Py_INCREF(datatype);
}

bool BufferSpec::read(PyObject* spec) {
  const bool is_list = PyList_CheckExact(spec);
  if (!is_list && !PyTuple_CheckExact(spec)) return false;
  const Py_ssize_t size = is_list ? PyList_Size(spec) : PyTuple_Size(spec);
  if (size != 2 && size != 3) return false;
  auto item = [&](Py_ssize_t i) {
    return is_list ? PyList_GetItem(spec, i) : PyTuple_GetItem(spec, i);
  };
  memory = item(0);
  PyObject* datatype = nullptr;
  if (size == 3) {
    count = item(1);
    datatype = item(2);
  } else {
    (PyLong_CheckExact(item(1)) ? count : datatype) = item(1);
  }
  if (count != nullptr && !PyLong_CheckExact(count)) return false;
  if (datatype == nullptr) return true;
  const auto found = sizes().find(datatype);
  if (found == sizes().end()) return false;
  item_bytes = found->second;
  return true;
}

bool BufferSpec::measure(std::uint64_t available, Py_ssize_t own_item_bytes,
                         std::uint64_t& bytes) const {
  if (item_bytes == 0 && own_item_bytes <= 0) return false;
  const auto unit = static_cast<std::uint64_t>(item_bytes != 0 ? item_bytes : own_item_bytes);
  if (count == nullptr) {
    bytes = available;
    return available % unit == 0;
  }
  const Py_ssize_t items = PyLong_AsSsize_t(count);
  if (items < 0) {
    PyErr_Clear();
    return false;
  }
  if (static_cast<std::uint64_t>(items) > available / unit) return false;
  bytes = static_cast<std::uint64_t>(items) * unit;
  return true;
}

}  // namespace mooncake_mpi::bindings
