// Tensors, read through DLPack's C exchange table. With the interpreter's lock (GIL) held.
#include "bindings/dlpack_tensor.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "bindings/device_array.h"

namespace mooncake_mpi::bindings {
namespace {

// DLTensor, and the exchange table as far as it is used (DLPack 1.2).
struct Tensor {
  void* data;
  std::int32_t device_type;
  std::int32_t device_id;
  std::int32_t dimensions;
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
  const std::int64_t* shape;
  const std::int64_t* strides;  // nullptr: C order
  std::uint64_t byte_offset;
};

struct ExchangeTable {
  std::uint32_t major;
  std::uint32_t minor;
  const ExchangeTable* older;
  void* allocate;
  void* managed_from_object;
  void* managed_to_object;
  int (*tensor_from_object)(void* object, Tensor* tensor);
  int (*current_stream)(std::int32_t device_type, std::int32_t device_id, void** stream);
};

constexpr std::int32_t kHostDevice = 1;
constexpr std::int32_t kCudaDevice = 2;
constexpr std::uint32_t kMajor = 1;
enum Code : std::uint8_t { kInt = 0, kUnsigned = 1, kFloat = 2, kComplex = 5, kBool = 6 };

struct TensorType {
  PyTypeObject* type;
  const ExchangeTable* table;
  std::vector<PyObject*> obstacles;
};

std::vector<TensorType>& tensor_types() noexcept {
  static auto* instance = new std::vector<TensorType>;
  return *instance;
}

bool obstructed(const TensorType& type, PyObject* object) {
  for (PyObject* obstacle : type.obstacles) {
    PyObject* answer = PyObject_CallFunctionObjArgs(obstacle, object, nullptr);
    const bool clear = answer == Py_False;
    Py_XDECREF(answer);
    if (clear) continue;
    PyErr_Clear();
    return true;
  }
  return false;
}

// The number of elements if they follow each other in C order, else -1.
std::int64_t contiguous_elements(const Tensor& tensor) noexcept {
  std::int64_t elements = 1;
  for (std::int32_t axis = tensor.dimensions - 1; axis >= 0; --axis) {
    const bool in_place =
        tensor.strides == nullptr || tensor.shape[axis] == 1 || tensor.strides[axis] == elements;
    if (!in_place && tensor.shape[axis] != 0) return -1;
    elements *= tensor.shape[axis];
  }
  return elements;
}

// Of a GPU, in the order of the stream that its library works in now.
bool take_device_tensor(const ExchangeTable& table, const Tensor& tensor, std::uint64_t bytes,
                        Buffer& buffer) {
  void* stream = nullptr;
  if (table.current_stream == nullptr ||
      table.current_stream(tensor.device_type, tensor.device_id, &stream) != 0) {
    PyErr_Clear();
    return false;
  }
  auto found = device_buffer(reinterpret_cast<std::uint64_t>(tensor.data) + tensor.byte_offset,
                             bytes, reinterpret_cast<std::uintptr_t>(stream));
  if (found) buffer = found.value();
  return static_cast<bool>(found);
}

bool mpi_has(const Tensor& tensor) noexcept {
  switch (tensor.code) {
    case kInt:
    case kUnsigned:
    case kFloat:
    case kComplex:
    case kBool:
      return tensor.lanes == 1;
    default:
      return false;
  }
}

}  // namespace

bool learn_tensor_type(PyObject* type, PyObject* capsule, PyObject* obstacles) {
  const auto* table =
      static_cast<const ExchangeTable*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  if (table == nullptr) {
    PyErr_Clear();
    return false;
  }
  while (table != nullptr && table->major > kMajor)
    table = table->older;
  if (table == nullptr || table->major != kMajor || table->tensor_from_object == nullptr) {
    return false;
  }
  TensorType learned{reinterpret_cast<PyTypeObject*>(type), table, {}};
  for (Py_ssize_t i = 0; i < PyTuple_Size(obstacles); ++i)
    learned.obstacles.push_back(Py_NewRef(PyTuple_GetItem(obstacles, i)));
  for (const TensorType& known : tensor_types()) {
    if (known.type == learned.type) return true;
  }
  Py_INCREF(type);
  tensor_types().push_back(std::move(learned));
  return true;
}

bool take_tensor(PyObject* object, Buffer& buffer, Py_ssize_t& item_bytes) {
  for (const TensorType& type : tensor_types()) {
    if (Py_TYPE(object) != type.type) continue;
    Tensor tensor{};
    if (obstructed(type, object)) return false;
    if (type.table->tensor_from_object(object, &tensor) != 0) {
      PyErr_Clear();
      return false;
    }
    const std::int64_t elements = contiguous_elements(tensor);
    const std::uint32_t bits = std::uint32_t{tensor.bits} * tensor.lanes;
    if (elements < 0 || bits % 8 != 0) return false;
    const std::uint64_t bytes = static_cast<std::uint64_t>(elements) * (bits / 8);
    if (tensor.device_type == kHostDevice) {
      buffer = {static_cast<std::byte*>(tensor.data) + tensor.byte_offset, bytes};
    } else if (tensor.device_type != kCudaDevice ||
               !take_device_tensor(*type.table, tensor, bytes, buffer)) {
      return false;
    }
    item_bytes = mpi_has(tensor) ? static_cast<Py_ssize_t>(bits / 8) : 0;
    return true;
  }
  return false;
}

}  // namespace mooncake_mpi::bindings
