#include "bindings/status_layout.h"

#include <cstring>

namespace mooncake_mpi::bindings {
namespace {

template <class Value>
void put(PyObject* object, Py_ssize_t offset, Value value) noexcept {
  std::memcpy(reinterpret_cast<char*>(object) + offset, &value, sizeof value);
}

}  // namespace

void StatusLayout::write(PyObject* status, int source_rank, int tag_value, int error_class,
                         std::uint64_t bytes) const noexcept {
  put(status, source, source_rank);
  put(status, tag, tag_value);
  put(status, error, error_class);
  if (split_bit < 64) {
    const std::uint64_t low = (std::uint64_t{1} << split_bit) - 1;
    bytes = (bytes & low) | (bytes & ~low) << 1;
  }
  put(status, count, bytes);
  if (cancelled != 0) put(status, cancelled, 0);
}

}  // namespace mooncake_mpi::bindings
