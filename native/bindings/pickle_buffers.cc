// Buffers that lie beside a pickle stream, put into it and taken out again. With the interpreter's
// lock (GIL) held.
#include <nanobind/stl/vector.h>

#include <string>
#include <string_view>
#include <vector>

#include "bindings/module.h"
#include "wire/pickle_stream.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

// What goes around buffers that lie beside a pickle stream, see wire/pickle_stream.h.
nb::object put_buffers_in(nb::bytes stream, const std::vector<std::uint64_t>& sizes) {
  const auto glue = wire::put_buffers_in({stream.c_str(), stream.size()}, sizes);
  if (!glue) return nb::none();
  nb::list parts;
  for (const std::string& part : *glue)
    parts.append(nb::bytes(part.data(), part.size()));
  return parts;
}

nb::object take_buffers_out(std::uintptr_t address, std::size_t nbytes) {
  const std::string_view message(reinterpret_cast<const char*>(address), nbytes);
  const std::vector<wire::PickledBuffer> found = wire::find_buffers(message);
  if (found.empty()) return nb::none();
  nb::list places;
  for (const wire::PickledBuffer& buffer : found)
    places.append(nb::make_tuple(buffer.data, buffer.end()));
  const std::string stream = wire::take_buffers_out(message, found);
  return nb::make_tuple(nb::bytes(stream.data(), stream.size()), places);
}

}  // namespace

void define_pickle_buffers(nb::module_& m) {
  m.def("put_buffers_in", &put_buffers_in,
        nb::sig("def put_buffers_in(stream: bytes, sizes: Sequence[int]) -> list[bytes] | None"),
        "stream"_a, "sizes"_a,
        "What goes around the buffers of a pickle stream, which lie beside it, to make one stream "
        "of all; None if they do not belong together.");
  m.def(
      "take_buffers_out", &take_buffers_out,
      nb::sig("def take_buffers_out(address: int, nbytes: int) -> "
              "tuple[bytes, list[tuple[int, int]]] | None"),
      "address"_a, "nbytes"_a,
      "A pickle stream without the buffers that put_buffers_in() marked, and where in the message "
      "they begin and end; None if there are none.");
}

}  // namespace mooncake_mpi::bindings
