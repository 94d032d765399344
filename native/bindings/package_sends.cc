// Sends that the package makes, by address or of any buffer: for objects, partitioned operations
// and agreements. With the interpreter's lock (GIL) held, which a wait gives back while it sleeps.
#include <nanobind/stl/pair.h>

#include <memory>
#include <utility>

#include "bindings/checks.h"
#include "bindings/module.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"
#include "bindings/send_methods.h"
#include "memory/pieces.h"

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
  const Completion completion{Error::kNone, false, communicator.rank(),
                              tag,          dest,  view.buffer().bytes};
  return steal_or_throw(new_request(operation, completion, std::move(view), channel));
}

nb::object post_send_at(Communicator& communicator, std::uintptr_t address, std::uint64_t nbytes,
                        nb::object keepalive, int dest, int tag, SendMode mode,
                        MatchChannel channel) {
  BufferView view;
  view.borrow(memory_at(address, nbytes), keepalive.ptr());
  return send_view(communicator, std::move(view), dest, tag, mode, channel);
}

nb::object isend_bytes(Communicator& communicator, nb::object buf, int dest, int tag, SendMode mode,
                       MatchChannel channel) {
  BufferView view;
  require(view.acquire(buf.ptr(), false, dest));
  return send_view(communicator, std::move(view), dest, tag, mode, channel);
}

// `pieces`: addresses and lengths, of memory that `keepalive` holds.
nb::object isend_pieces(Communicator& communicator, nb::list pieces, nb::object keepalive, int dest,
                        int tag, SendMode mode) {
  require_usable(communicator);
  require(check_dest(communicator, dest) && check_send_tag(communicator, tag));
  auto places = std::make_unique<Pieces>();
  for (nb::handle piece : pieces) {
    const auto [address, nbytes] = nb::cast<std::pair<std::uintptr_t, std::uint64_t>>(piece);
    places->add(reinterpret_cast<const std::byte*>(address), nbytes);
  }
  if (mode == SendMode::kBuffered) throw nb::value_error("pieces are not copied");
  const std::uint64_t bytes = places->bytes();
  if (bytes == 0) throw nb::value_error("a message of pieces needs at least one byte");
  BufferView view;
  view.borrow(memory_at(0, bytes), keepalive.ptr());
  Result<Operation*> sent = runtime().engine->send_pieces(
      communicator.context(), MatchChannel::kMessages, dest, tag, std::move(places), mode);
  if (!sent) {
    raise_error(sent.failure().error, sent.failure().message.c_str());
    throw nb::python_error();
  }
  const Completion completion{};
  return steal_or_throw(new_request(sent.value(), completion, std::move(view)));
}

void send_bytes(Communicator& communicator, nb::object buf, int dest, int tag, SendMode mode) {
  BufferView view;
  require(view.acquire(buf.ptr(), false, dest));
  require_usable(communicator);
  require(check_dest(communicator, dest) && check_send_tag(communicator, tag));
  if (dest == runtime().constants.proc_null) return require(check_not_revoked(communicator));
  Operation* operation = nullptr;
  require(
      post_send(communicator, view.buffer(), dest, tag, mode, MatchChannel::kMessages, operation));
  if (operation != nullptr) require(wait_send(*operation, view));
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
  m.def(
      "isend_pieces", &isend_pieces,
      nb::sig(
          "def isend_pieces(communicator: Communicator, pieces: list[tuple[int, int]], "
          "keepalive: Any, dest: int, tag: int, mode: SendMode) -> mooncake_mpi.requests.Request"),
      "communicator"_a, "pieces"_a, "keepalive"_a, "dest"_a, "tag"_a, "mode"_a,
      "Start sending bytes at several places (address, length) as one message; not buffered.");
  m.def("send_bytes", &send_bytes,
        nb::sig("def send_bytes(communicator: Communicator, buf: Any, dest: int, tag: int, mode: "
                "SendMode = mooncake_mpi._native.SendMode.STANDARD) -> None"),
        "communicator"_a, "buf"_a, "dest"_a, "tag"_a, "mode"_a = SendMode::kStandard,
        "Blocking send of a contiguous buffer.");
}

}  // namespace mooncake_mpi::bindings
