// Sends that the package starts, by address or of any buffer: for objects, partitioned operations
// and agreements. With the interpreter's lock (GIL) held.
#include <utility>

#include "bindings/checks.h"
#include "bindings/module.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"
#include "bindings/send_methods.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

nb::object send_view(Communicator& communicator, BufferView&& view, int dest, int tag,
                     SendMode mode, MatchChannel channel) {
  require_usable(communicator);
  require(check_dest(communicator, dest));
  if (channel == MatchChannel::kMessages) require(check_send_tag(communicator, tag));
  if (dest == runtime().constants.proc_null) {
    require(check_not_revoked(communicator));
    return steal_or_throw(new_request(nullptr, proc_null_completion(), std::move(view)));
  }
  Operation* operation = nullptr;
  require(post_send(communicator, view.buffer(), dest, tag, mode, channel, operation));
  const Completion completion =
      sent_completion(communicator.context(), dest, tag, view.buffer().bytes);
  return steal_or_throw(new_request(operation, completion, std::move(view), channel));
}

nb::object post_send_at(Communicator& communicator, std::uintptr_t address, std::uint64_t nbytes,
                        nb::object keepalive, int dest, int tag, SendMode mode,
                        MatchChannel channel) {
  BufferView view;
  view.borrow(memory_at(address, nbytes), keepalive.ptr());
  return send_view(communicator, std::move(view), dest, tag, mode, channel);
}

nb::object isend_bytes(Communicator& communicator, nb::object buf, Int given_dest, Int given_tag,
                       SendMode mode, MatchChannel channel) {
  const int dest = given_dest.number();
  const int tag = given_tag.number();
  BufferView view;
  require(view.acquire(buf.ptr(), false, dest));
  return send_view(communicator, std::move(view), dest, tag, mode, channel);
}

}  // namespace

void define_sends(nb::module_& m) {
  m.def("post_send", &post_send_at,
        nb::sig(
            "def post_send(communicator: Communicator, address: int, nbytes: int, keepalive: Any, "
            "dest: int, tag: int, mode: SendMode = mooncake_mpi._native.SendMode.STANDARD, "
            "channel: MatchChannel = "
            "mooncake_mpi._native.MatchChannel.MESSAGES) -> mooncake_mpi.requests.Request"),
        "communicator"_a, "address"_a, "nbytes"_a, "keepalive"_a.none(), "dest"_a, "tag"_a,
        "mode"_a = SendMode::kStandard, "channel"_a = MatchChannel::kMessages,
        "Send `nbytes` at `address`.");
  m.def("isend_bytes", &isend_bytes,
        nb::sig("def isend_bytes(communicator: Communicator, buf: Any, dest: int, tag: int, mode: "
                "SendMode = mooncake_mpi._native.SendMode.STANDARD, channel: MatchChannel = "
                "mooncake_mpi._native.MatchChannel.MESSAGES) -> "
                "mooncake_mpi.requests.Request"),
        "communicator"_a, "buf"_a, "dest"_a, "tag"_a, "mode"_a = SendMode::kStandard,
        "channel"_a = MatchChannel::kMessages, "Non-blocking send of a contiguous buffer.");
}

}  // namespace mooncake_mpi::bindings
