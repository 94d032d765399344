// Blocking calls of the package, whose messages are objects. Each is one call from the post to the
// end, so that an exception that leaves it finds everything that was posted: nothing touches the
// caller's memory any more, and no message is lost. With the interpreter's lock (GIL) held, which a
// wait gives back while it sleeps.
#include <nanobind/stl/pair.h>

#include <memory>
#include <new>
#include <utility>

#include "bindings/checks.h"
#include "bindings/module.h"
#include "bindings/object_methods.h"
#include "bindings/owned_buffer.h"
#include "bindings/receive_methods.h"
#include "bindings/request_completion.h"
#include "bindings/send_methods.h"
#include "memory/pieces.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

// A message to be sent: a buffer, or (pieces, keepalive): the addresses and lengths of bytes at
// several places, of memory that `keepalive` holds.
class Outgoing {
 public:
  Outgoing(nb::handle message, int dest) {
    if (!PyTuple_Check(message.ptr())) {
      require(view_.acquire(message.ptr(), false, dest));
      return;
    }
    const auto parts = nb::cast<nb::tuple>(message);
    pieces_ = std::make_unique<Pieces>();
    for (nb::handle piece : nb::cast<nb::list>(parts[0])) {
      const auto [address, nbytes] = nb::cast<std::pair<std::uintptr_t, std::uint64_t>>(piece);
      pieces_->add(reinterpret_cast<const std::byte*>(address), nbytes);
    }
    if (pieces_->bytes() == 0) throw nb::value_error("a message of pieces needs at least one byte");
    view_.borrow(memory_at(0, pieces_->bytes()), nb::object(parts[1]).ptr());
  }

  // False with the MPI exception raised. The arguments were checked.
  bool post(Communicator& communicator, int dest, int tag, SendMode mode) {
    if (pieces_ == nullptr) {
      return post_send(communicator, view_.buffer(), dest, tag, mode, MatchChannel::kMessages,
                       operation_);
    }
    if (mode == SendMode::kBuffered) {
      PyErr_SetString(PyExc_ValueError, "pieces are not copied");
      return false;
    }
    return post_pieces(communicator, std::move(pieces_), dest, tag, mode, operation_);
  }

  // False with the exception set.
  bool wait() { return operation_ == nullptr || wait_send(*operation_, view_); }

 private:
  BufferView view_;
  std::unique_ptr<Pieces> pieces_;
  Operation* operation_ = nullptr;  // nullptr: not posted, or done at once
};

// A message to be received: into `place`, (address, length, keepalive), or where that is None into
// memory of the engine.
class Incoming {
 public:
  explicit Incoming(nb::handle place) {
    if (place.is_none()) return;
    const auto parts = nb::cast<nb::tuple>(place);
    view_.borrow(memory_at(nb::cast<std::uintptr_t>(parts[0]), nb::cast<std::uint64_t>(parts[1])),
                 nb::object(parts[2]).ptr());
    received_ = Received::kLength;
  }

  void post(Communicator& communicator, int source, int tag) {
    Engine& engine = *runtime().engine;
    Context& context = communicator.context();
    operation_ =
        received_ == Received::kMemory
            ? engine.receive_any_size(context, MatchChannel::kMessages, source, tag)
            : engine.receive(context, MatchChannel::kMessages, source, tag, view_.buffer());
  }

  void give_up() {
    if (operation_ != nullptr) give_up_receive(*operation_, view_, MatchChannel::kMessages);
  }

  // The OwnedBuffer or the number of bytes; None where nothing was posted, as from PROC_NULL.
  nb::object wait(nb::handle status) {
    if (operation_ != nullptr) {
      return steal_or_throw(wait_receive(*operation_, view_, status.ptr(), received_));
    }
    require(fill_status(status.ptr(), proc_null_completion()));
    return nb::none();
  }

 private:
  BufferView view_;
  Received received_ = Received::kMemory;
  Operation* operation_ = nullptr;
};

void send(Communicator& communicator, nb::object message, Int given_dest, Int given_tag,
          SendMode mode) {
  const int dest = given_dest.number();
  const int tag = given_tag.number();
  Outgoing sent(message, dest);
  require_usable(communicator);
  require(check_dest(communicator, dest) && check_send_tag(communicator, tag));
  if (dest == runtime().constants.proc_null) return require(check_not_revoked(communicator));
  require(sent.post(communicator, dest, tag, mode) && sent.wait());
}

nb::object recv(Communicator& communicator, nb::object place, Int given_source, Int given_tag,
                nb::object status) {
  int source = given_source.number();
  int tag = given_tag.number();
  require(check_status(status.ptr()));
  Incoming received(place);
  check_receive(communicator, source, tag, MatchChannel::kMessages);
  if (source == runtime().constants.proc_null) {
    require(check_not_revoked(communicator));
  } else {
    received.post(communicator, source, tag);
  }
  return received.wait(status);
}

nb::object sendrecv(Communicator& communicator, nb::object message, Int given_dest,
                    Int given_sendtag, nb::object place, Int given_source, Int given_recvtag,
                    nb::object status) {
  const int dest = given_dest.number();
  const int sendtag = given_sendtag.number();
  int source = given_source.number();
  int recvtag = given_recvtag.number();
  require(check_status(status.ptr()));
  Outgoing sent(message, dest);
  Incoming received(place);
  require_usable(communicator);
  require(check_dest(communicator, dest) && check_send_tag(communicator, sendtag, "sendtag"));
  require(check_source(communicator, source));
  require(check_receive_tag(communicator, recvtag, "recvtag"));
  const int proc_null = runtime().constants.proc_null;
  if (dest == proc_null || source == proc_null) require(check_not_revoked(communicator));
  if (source != proc_null) received.post(communicator, source, recvtag);
  if (dest != proc_null &&
      !(sent.post(communicator, dest, sendtag, SendMode::kStandard) && sent.wait())) {
    received.give_up();
    throw nb::python_error();
  }
  return received.wait(status);
}

void give_back(Communicator& communicator, nb::object message) {
  if (!is_owned_buffer(message.ptr())) throw nb::type_error("expected an OwnedBuffer");
  if (!communicator.is_open()) return;
  const OwnedMessage given = owned_message(message.ptr());
  runtime().engine->give_back(communicator.context(), given.source, given.tag,
                              Bytes(given.address, static_cast<std::size_t>(given.bytes)));
}

}  // namespace

void define_objects(nb::module_& m) {
  m.def("send", &send,
        nb::sig("def send(communicator: Communicator, message: bytes | tuple[list[tuple[int, int]],"
                " Any], dest: int, tag: int, mode: SendMode = "
                "mooncake_mpi._native.SendMode.STANDARD) -> None"),
        "communicator"_a, "message"_a, "dest"_a, "tag"_a, "mode"_a = SendMode::kStandard,
        "Send one buffer, or bytes at several places: (addresses and lengths, what keeps them).");
  m.def("recv", &recv,
        nb::sig("def recv(communicator: Communicator, place: tuple[int, int, Any] | None, source: "
                "int, tag: int, status: Status | None = None) -> Any"),
        "communicator"_a, "place"_a.none(), "source"_a, "tag"_a, "status"_a = nb::none(),
        "Receive into memory of the engine: an OwnedBuffer. Or to (address, length, what keeps "
        "it): the number of bytes. None from PROC_NULL.");
  m.def("sendrecv", &sendrecv,
        nb::sig("def sendrecv(communicator: Communicator, message: bytes | tuple[list[tuple[int, "
                "int]], Any], dest: int, sendtag: int, place: tuple[int, int, Any] | None, source: "
                "int, recvtag: int, status: Status | None = None) -> Any"),
        "communicator"_a, "message"_a, "dest"_a, "sendtag"_a, "place"_a.none(), "source"_a,
        "recvtag"_a, "status"_a = nb::none(), "As send() and recv() at once.");
  m.def("give_back", &give_back,
        nb::sig("def give_back(communicator: Communicator, message: OwnedBuffer) -> None"),
        "communicator"_a, "message"_a,
        "Put a copy of a message that was received back into the queue, before all others.");
  m.def(
      "set_pickling",
      [](nb::callable dumps, nb::callable loads, nb::callable load, nb::callable not_loaded,
         nb::callable is_interruption, nb::callable send, nb::callable recv) {
        set_pickling({dumps.release().ptr(), loads.release().ptr(), load.release().ptr(),
                      not_loaded.release().ptr(), is_interruption.release().ptr(),
                      send.release().ptr(), recv.release().ptr()});
      },
      nb::sig("def set_pickling(dumps: Callable[..., Any], loads: Callable[..., Any], "
              "load: Callable[..., Any], not_loaded: Callable[..., None], "
              "is_interruption: Callable[[BaseException], bool], "
              "send: Callable[..., None], recv: Callable[..., Any]) -> None"),
      "dumps"_a, "loads"_a, "load"_a, "not_loaded"_a, "is_interruption"_a, "send"_a, "recv"_a,
      "What a communicator's send and recv call: for plain objects and ordinary messages; for "
      "large messages; where unpickling raised; to tell what a signal's handler raised; for any "
      "other object; and for a receive into a buffer.");
}

}  // namespace mooncake_mpi::bindings
