// The class Communicator of the module: a communicator's context in the engine, as the package
// makes and asks it. With the interpreter's lock (GIL) held; each call takes the engine's own lock.
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/checks.h"
#include "bindings/communicator.h"
#include "bindings/module.h"
#include "bindings/runtime.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

// The context of a communicator that a method of the program's asks about.
Context& context_in_use(const Communicator& communicator) {
  require_usable(communicator);
  return communicator.context();
}

nb::bytes bytes_of(const wire::Head& head) {
  return nb::bytes(reinterpret_cast<const char*>(&head), sizeof head);
}

std::span<const std::byte> heads_of(const nb::bytes& heads) {
  return {reinterpret_cast<const std::byte*>(heads.c_str()), heads.size()};
}

}  // namespace

void define_communicator(nb::module_& m) {
  nb::class_<Communicator>(m, "Communicator", "A communicator's matching space in the engine.",
                           nb::dynamic_attr())
      .def(nb::init<int, int, int>(), "rank"_a, "size"_a, "tag_ub"_a,
           "Allocate this process's context of a communicator of `size` ranks.")
      .def_prop_ro(
          "head", [](const Communicator& self) { return bytes_of(self.head()); },
          "What every process must have of this one first, HEAD_BYTES long: allgather it.")
      .def_prop_ro(
          "entry",
          [](const Communicator& self) {
            auto entry = self.entry();
            return nb::bytes(reinterpret_cast<const char*>(entry.data()), entry.size());
          },
          "This process's address, as long as its head says.")
      .def(
          "activate",
          [](Communicator& self, const nb::bytearray& entries, std::size_t entry_bytes,
             std::string label) {
            const auto* first = reinterpret_cast<const std::byte*>(entries.c_str());
            self.activate({first, entries.size()}, entry_bytes, std::move(label));
          },
          "entries"_a, "entry_bytes"_a, "label"_a = "",
          "Take the addresses of all ranks, in rank order, each with zeros behind it up to so many "
          "bytes; `label` is for people.")
      .def("inherit", &Communicator::inherit, "parent"_a, "ranks"_a, "label"_a = "",
           "Be a communicator of members of `parent`, by rank there, or of all; then join().")
      .def_prop_ro("has_spares", &Communicator::has_spares,
                   "Whether take_spare() gives one; the same at every member.")
      .def_prop_ro("spares_at_once", &Communicator::spares_at_once,
                   "How many make_spares() makes; the same at every member.")
      .def(
          "make_spares",
          [](Communicator& self) {
            const std::vector<wire::Head> heads = self.make_spares();
            return nb::bytes(reinterpret_cast<const char*>(heads.data()),
                             heads.size() * sizeof(wire::Head));
          },
          "Make duplicates for now and for later; their heads: allgather them for keep_spares().")
      .def(
          "keep_spares",
          [](Communicator& self, const nb::bytearray& heads) {
            const auto* first = reinterpret_cast<const std::byte*>(heads.c_str());
            return self.keep_spares({first, heads.size()});
          },
          "heads"_a,
          "The heads of all members' spares; every member calls it. False, and there are none: one "
          "of the members cannot take part.")
      .def(
          "take_spare", &Communicator::take_spare,
          nb::sig("def take_spare(self) -> Communicator | None"),
          "A duplicate that the members know already, the same at each; None: make_spares() first.")
      .def("put_back", &Communicator::put_back, "spare"_a, "It was not used, at any member.")
      .def("begin", &Communicator::begin, "label"_a, "Use a spare; `label` is for people.")
      .def_prop_ro("number", &Communicator::number,
                   "Of this process's context: every member gives it to the others, for join().")
      .def("number_at", &Communicator::number_at, "rank"_a,
           "The number that the process of that rank gave its context; 0 where there is none.")
      .def("join", nb::overload_cast<const std::vector<std::uint32_t>&>(&Communicator::join),
           "numbers"_a, "After inherit(): take the members' numbers, in rank order.")
      .def(
          "join_heads",
          [](Communicator& self, const nb::bytearray& heads, const std::vector<int>& ranks) {
            const auto* first = reinterpret_cast<const std::byte*>(heads.c_str());
            return self.join({first, heads.size()}, ranks);
          },
          "heads"_a, "ranks"_a,
          "The same, from the heads of all of the parent's processes; False, and nothing is taken: "
          "one of them cannot take part.")
      .def("reshape", &Communicator::reshape, "rank"_a, "size"_a,
           "Before activate(): this process is `rank` of fewer members than it was made for.")
      .def("close", &Communicator::close, "The communicator was freed: later calls raise ERR_COMM.")
      .def(
          "failures",
          [](const Communicator& self) {
            context_in_use(self);
            return self.failures();
          },
          "The ranks that have failed, in the order of notice, and how many are acknowledged.")
      .def(
          "acknowledge",
          [](const Communicator& self, std::size_t count) {
            return runtime().engine->acknowledge(context_in_use(self), count);
          },
          "count"_a,
          "Receives from any source go on without the first `count` of them; how many are "
          "acknowledged now.")
      .def(
          "revoke",
          [](const Communicator& self) { runtime().engine->revoke(context_in_use(self)); },
          "Revoke the communicator at every rank.")
      .def_prop_ro(
          "revoked",
          [](const Communicator& self) { return runtime().engine->revoked(context_in_use(self)); },
          "Whether a rank has revoked the communicator.")
      .def_prop_ro("rank", &Communicator::rank)
      .def_prop_ro("size", &Communicator::size)
      .def_prop_ro("tag_ub", &Communicator::tag_ub);
  m.attr("HEAD_BYTES") = sizeof(wire::Head);
  m.attr("HEAD_OF_NO_MEMBER") = bytes_of({});
  m.attr("HEAD_OF_REFUSAL") = bytes_of({.part = wire::Part::kCannot});
  m.def(
      "objection_to_heads",
      [](const nb::bytes& heads) { return wire::objection_to_heads(heads_of(heads)); }, "heads"_a,
      "Why these heads, one of each process, do not allow to go on; empty when they do.");
}

}  // namespace mooncake_mpi::bindings
