// Receives that the package starts, by address or into memory of the engine: for objects,
// partitioned operations and agreements. With the interpreter's lock (GIL) held.
#include <utility>

#include "bindings/checks.h"
#include "bindings/module.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

nb::object post_recv_at(Communicator& communicator, std::uintptr_t address, std::uint64_t nbytes,
                        nb::object keepalive, Int given_source, Int given_tag,
                        MatchChannel channel) {
  int source = given_source.number();
  int tag = given_tag.number();
  check_receive(communicator, source, tag, channel);
  BufferView view;
  view.borrow(memory_at(address, nbytes), keepalive.ptr());
  if (source == runtime().constants.proc_null) {
    require(check_not_revoked(communicator));
    return steal_or_throw(new_request(nullptr, proc_null_completion(), std::move(view)));
  }
  Operation* operation =
      runtime().engine->receive(communicator.context(), channel, source, tag, view.buffer());
  return steal_or_throw(new_request(operation, {}, std::move(view), channel));
}

nb::object post_recv_any_size(Communicator& communicator, Int given_source, Int given_tag,
                              MatchChannel channel) {
  int source = given_source.number();
  int tag = given_tag.number();
  check_receive(communicator, source, tag, channel);
  if (source == runtime().constants.proc_null) {
    require(check_not_revoked(communicator));
    return steal_or_throw(
        new_request(nullptr, proc_null_completion(), BufferView(), channel, true));
  }
  Operation* operation =
      runtime().engine->receive_any_size(communicator.context(), channel, source, tag);
  return steal_or_throw(new_request(operation, {}, BufferView(), channel, true));
}

}  // namespace

void define_receives(nb::module_& m) {
  m.def("post_recv", &post_recv_at,
        nb::sig("def post_recv(communicator: Communicator, address: int, nbytes: int, keepalive: "
                "Any, source: int, tag: int, channel: MatchChannel = "
                "mooncake_mpi._native.MatchChannel.MESSAGES) -> "
                "mooncake_mpi.requests.Request"),
        "communicator"_a, "address"_a, "nbytes"_a, "keepalive"_a.none(), "source"_a, "tag"_a,
        "channel"_a = MatchChannel::kMessages, "Receive at most `nbytes` to `address`.");
  m.def("post_recv_any_size", &post_recv_any_size,
        nb::sig("def post_recv_any_size(communicator: Communicator, source: int, tag: int, "
                "channel: MatchChannel = mooncake_mpi._native.MatchChannel.MESSAGES) -> "
                "mooncake_mpi.requests.Request"),
        "communicator"_a, "source"_a, "tag"_a, "channel"_a = MatchChannel::kMessages,
        "Receive a message of any size into memory of the engine: the result is an OwnedBuffer.");
}

}  // namespace mooncake_mpi::bindings
