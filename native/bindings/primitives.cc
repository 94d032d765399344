#include "bindings/primitives.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>
#include <vector>

#include "bindings/communicator.h"
#include "bindings/completion.h"
#include "bindings/notices.h"
#include "bindings/receive_methods.h"
#include "bindings/request.h"
#include "bindings/send_methods.h"
#include "bindings/waiting.h"
#include "memory/pieces.h"
#include "wire/pickle_stream.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

nb::object steal_or_throw(PyObject* object) {
  if (object == nullptr) throw nb::python_error();
  return nb::steal(object);
}

void require(bool ok) {
  if (!ok) throw nb::python_error();
}

void require_usable(const Communicator& communicator) {
  if (!communicator.usable()) {
    raise_unusable();
    throw nb::python_error();
  }
}

MatchChannel to_channel(int channel) {
  if (channel < 0 || channel >= static_cast<int>(kMatchChannels)) {
    throw nb::value_error("channel must be 0, 1, 2 or 3");
  }
  return static_cast<MatchChannel>(channel);
}

SendMode to_mode(int mode) {
  if (mode < 0 || mode > 3) throw nb::value_error("mode must be 0, 1, 2 or 3");
  return static_cast<SendMode>(mode);
}

Buffer memory_at(std::uintptr_t address, std::uint64_t nbytes) {
  return {reinterpret_cast<std::byte*>(address), nbytes};
}

nb::object send_view(Communicator& communicator, BufferView&& view, int dest, int tag, int mode,
                     int channel) {
  require_usable(communicator);
  const SendMode send_mode = to_mode(mode);
  const MatchChannel match_channel = to_channel(channel);
  require(check_dest(communicator, dest));
  if (match_channel == MatchChannel::kMessages) require(check_send_tag(communicator, tag));
  if (dest == runtime().constants.proc_null) {
    require(check_not_revoked(communicator));
    return steal_or_throw(new_request(nullptr, proc_null_completion(), std::move(view)));
  }
  Operation* operation = nullptr;
  require(post_send(communicator, view.buffer(), dest, tag, send_mode, match_channel, operation));
  const Completion completion{Error::kNone, false, communicator.rank(),
                              tag,          dest,  view.buffer().bytes};
  return steal_or_throw(new_request(operation, completion, std::move(view), match_channel));
}

nb::object post_send_at(Communicator& communicator, std::uintptr_t address, std::uint64_t nbytes,
                        nb::object keepalive, int dest, int tag, int mode, int channel) {
  BufferView view;
  view.borrow(memory_at(address, nbytes), keepalive.ptr());
  return send_view(communicator, std::move(view), dest, tag, mode, channel);
}

nb::object isend_bytes(Communicator& communicator, nb::object buf, int dest, int tag, int mode,
                       int channel) {
  BufferView view;
  require(view.acquire(buf.ptr(), false, dest));
  return send_view(communicator, std::move(view), dest, tag, mode, channel);
}

// `pieces`: addresses and lengths, of memory that `keepalive` holds.
nb::object isend_pieces(Communicator& communicator, nb::list pieces, nb::object keepalive, int dest,
                        int tag, int mode) {
  require_usable(communicator);
  require(check_dest(communicator, dest) && check_send_tag(communicator, tag));
  auto places = std::make_unique<Pieces>();
  for (nb::handle piece : pieces) {
    const auto [address, nbytes] = nb::cast<std::pair<std::uintptr_t, std::uint64_t>>(piece);
    places->add(reinterpret_cast<const std::byte*>(address), nbytes);
  }
  const SendMode send_mode = to_mode(mode);
  if (send_mode == SendMode::kBuffered) throw nb::value_error("pieces are not copied");
  const std::uint64_t bytes = places->bytes();
  if (bytes == 0) throw nb::value_error("a message of pieces needs at least one byte");
  BufferView view;
  view.borrow(memory_at(0, bytes), keepalive.ptr());
  Result<Operation*> sent = runtime().engine->send_pieces(
      communicator.context(), MatchChannel::kMessages, dest, tag, std::move(places), send_mode);
  if (!sent) {
    raise_error(sent.failure().error, sent.failure().message.c_str());
    throw nb::python_error();
  }
  const Completion completion{};
  return steal_or_throw(new_request(sent.value(), completion, std::move(view)));
}

void send_bytes(Communicator& communicator, nb::object buf, int dest, int tag, int mode) {
  BufferView view;
  require(view.acquire(buf.ptr(), false, dest));
  require_usable(communicator);
  require(check_dest(communicator, dest) && check_send_tag(communicator, tag));
  if (dest == runtime().constants.proc_null) return require(check_not_revoked(communicator));
  Operation* operation = nullptr;
  require(post_send(communicator, view.buffer(), dest, tag, to_mode(mode), MatchChannel::kMessages,
                    operation));
  if (operation != nullptr) require(wait_send(*operation, view));
}

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

void check_receive(Communicator& communicator, int& source, int& tag, MatchChannel channel) {
  require_usable(communicator);
  require(check_source(communicator, source));
  if (channel == MatchChannel::kMessages) require(check_receive_tag(communicator, tag));
}

nb::object post_recv_at(Communicator& communicator, std::uintptr_t address, std::uint64_t nbytes,
                        nb::object keepalive, int source, int tag, int channel) {
  const MatchChannel match_channel = to_channel(channel);
  check_receive(communicator, source, tag, match_channel);
  BufferView view;
  view.borrow(memory_at(address, nbytes), keepalive.ptr());
  if (source == runtime().constants.proc_null) {
    require(check_not_revoked(communicator));
    return steal_or_throw(new_request(nullptr, proc_null_completion(), std::move(view)));
  }
  Operation* operation =
      runtime().engine->receive(communicator.context(), match_channel, source, tag, view.buffer());
  return steal_or_throw(new_request(operation, {}, std::move(view), match_channel));
}

nb::object post_recv_any_size(Communicator& communicator, int source, int tag, int channel) {
  const MatchChannel match_channel = to_channel(channel);
  check_receive(communicator, source, tag, match_channel);
  if (source == runtime().constants.proc_null) {
    require(check_not_revoked(communicator));
    return steal_or_throw(
        new_request(nullptr, proc_null_completion(), BufferView(), match_channel, true));
  }
  Operation* operation =
      runtime().engine->receive_any_size(communicator.context(), match_channel, source, tag);
  return steal_or_throw(new_request(operation, {}, BufferView(), match_channel, true));
}

nb::object recv_any_size(Communicator& communicator, int source, int tag, nb::object status) {
  require(check_status(status.ptr()));
  check_receive(communicator, source, tag, MatchChannel::kMessages);
  if (source == runtime().constants.proc_null) {
    require(check_not_revoked(communicator));
    require(fill_status(status.ptr(), proc_null_completion()));
    return nb::none();
  }
  Operation* operation = runtime().engine->receive_any_size(communicator.context(),
                                                            MatchChannel::kMessages, source, tag);
  BufferView view;
  return steal_or_throw(wait_receive(*operation, view, status.ptr(), true));
}

// --- matched probe ---

// A message that a matched probe took out of the queue; received exactly once.
struct MatchedMessage {
  ContextHold hold;
  UnexpectedMessage* message;
  int source;
  int tag;
  std::uint64_t bytes;
};

UnexpectedMessage& take(MatchedMessage& matched) {
  if (matched.message == nullptr) {
    raise_error("ERR_REQUEST", "invalid message: it was received already");
    throw nb::python_error();
  }
  return *std::exchange(matched.message, nullptr);
}

nb::object probe_matched(Communicator& communicator, int source, int tag, bool blocking) {
  check_receive(communicator, source, tag, MatchChannel::kMessages);
  Engine::Envelope envelope{};
  ContextHold hold(communicator);
  UnexpectedMessage* message = nullptr;
  // A wait may ask once more after it was told yes; a second message must not be taken then.
  auto found = [&] {
    return message != nullptr ||
           runtime().engine->iprobe(hold.context(), source, tag, envelope, &message);
  };
  if (blocking) {
    require(wait_until(found, [&](WaitRecord& record) {
      record.call = "Mprobe";
      record.probed = &hold.context();
      record.source = source;
      record.tag = tag;
    }));
  } else if (!found()) {
    return nb::none();
  }
  if (envelope.error != Error::kNone) {
    raise_no_message(envelope.error, source);
    throw nb::python_error();
  }
  return nb::cast(
      MatchedMessage{std::move(hold), message, envelope.source, envelope.tag, envelope.bytes});
}

nb::object improbe(Communicator& communicator, int source, int tag) {
  return probe_matched(communicator, source, tag, false);
}

nb::object mprobe(Communicator& communicator, int source, int tag) {
  return probe_matched(communicator, source, tag, true);
}

nb::object message_recv(MatchedMessage& matched, nb::object buf) {
  BufferView view;
  require(view.acquire(buf.ptr(), true, matched.source));
  Operation* operation =
      runtime().engine->receive_matched(matched.hold.context(), take(matched), &view.buffer());
  return steal_or_throw(new_request(operation, {}, std::move(view)));
}

nb::object message_recv_any_size(MatchedMessage& matched, nb::object status) {
  require(check_status(status.ptr()));
  Operation* operation =
      runtime().engine->receive_matched(matched.hold.context(), take(matched), nullptr);
  BufferView view;
  return steal_or_throw(wait_receive(*operation, view, status.ptr(), true));
}

nb::object message_post_recv_any_size(MatchedMessage& matched) {
  Operation* operation =
      runtime().engine->receive_matched(matched.hold.context(), take(matched), nullptr);
  return steal_or_throw(new_request(operation, {}, BufferView(), MatchChannel::kMessages, true));
}

// The caller of a blocking receive that is a request is left by an exception.
void give_up(nb::object object) {
  RequestObject* request = plain_owner(object.ptr());
  if (request == nullptr || request->state != RequestObject::State::kActive) return;
  request->state = RequestObject::State::kNull;
  Operation* operation = std::exchange(request->operation, nullptr);
  if (operation != nullptr) give_up_receive(*operation, request->view, request->channel);
  request->view.release();
}

nb::object completed_request(int) {
  return steal_or_throw(new_request(nullptr, proc_null_completion(), BufferView()));
}

bool call_when_done(nb::object request, nb::object callable) {
  if (!PyObject_TypeCheck(request.ptr(), reinterpret_cast<PyTypeObject*>(request_base_type()))) {
    throw nb::type_error("expected a Request");
  }
  const auto& object = *reinterpret_cast<RequestObject*>(request.ptr());
  return object.operation != nullptr && notices().call_when_done(*object.operation, callable.ptr());
}

nb::object wait_requests(nb::object requests, bool all, int timeout_ms) {
  return steal_or_throw(wait_for_requests(requests.ptr(), all, timeout_ms));
}

bool flush(int timeout_ms) {
  if (runtime().engine == nullptr) return true;
  bool done = false;
  {
    const InterpreterUnlocked unlocked;
    done = runtime().engine->flush(static_cast<std::uint64_t>(timeout_ms) * 1'000'000u);
  }
  require(PyErr_CheckSignals() == 0);
  return done;
}

}  // namespace

void define_primitives(nb::module_& m) {
  nb::class_<MatchedMessage>(m, "MatchedMessage", "A message taken by a matched probe.")
      .def_ro("source", &MatchedMessage::source)
      .def_ro("tag", &MatchedMessage::tag)
      .def_ro("nbytes", &MatchedMessage::bytes)
      .def_prop_ro("received", [](const MatchedMessage& self) { return self.message == nullptr; });

  m.def(
      "post_send", &post_send_at,
      nb::sig(
          "def post_send(communicator: Communicator, address: int, nbytes: int, keepalive: Any, "
          "dest: int, tag: int, mode: int = 0, channel: int = 0) -> mooncake_mpi.requests.Request"),
      "communicator"_a, "address"_a, "nbytes"_a, "keepalive"_a.none(), "dest"_a, "tag"_a,
      "mode"_a = 0, "channel"_a = 0,
      "Send `nbytes` at `address`. mode: 0 standard, 1 synchronous, 2 ready, 3 buffered; channel: "
      "0 messages, 1 attachments, 2 partitions, 3 agreements.");
  m.def("isend_bytes", &isend_bytes,
        nb::sig("def isend_bytes(communicator: Communicator, buf: Any, dest: int, tag: int, mode: "
                "int = 0, channel: int = 0) -> mooncake_mpi.requests.Request"),
        "communicator"_a, "buf"_a, "dest"_a, "tag"_a, "mode"_a = 0, "channel"_a = 0,
        "Non-blocking send of a contiguous buffer.");
  m.def("isend_pieces", &isend_pieces,
        nb::sig("def isend_pieces(communicator: Communicator, pieces: list[tuple[int, int]], "
                "keepalive: Any, dest: int, tag: int, mode: int) -> mooncake_mpi.requests.Request"),
        "communicator"_a, "pieces"_a, "keepalive"_a, "dest"_a, "tag"_a, "mode"_a,
        "Start sending bytes at several places (address, length) as one message; not buffered.");
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
  m.def("send_bytes", &send_bytes,
        nb::sig("def send_bytes(communicator: Communicator, buf: Any, dest: int, tag: int, mode: "
                "int = 0) -> None"),
        "communicator"_a, "buf"_a, "dest"_a, "tag"_a, "mode"_a = 0,
        "Blocking send of a contiguous buffer.");
  m.def("post_recv", &post_recv_at,
        nb::sig("def post_recv(communicator: Communicator, address: int, nbytes: int, keepalive: "
                "Any, source: int, tag: int, channel: int = 0) -> mooncake_mpi.requests.Request"),
        "communicator"_a, "address"_a, "nbytes"_a, "keepalive"_a.none(), "source"_a, "tag"_a,
        "channel"_a = 0, "Receive at most `nbytes` to `address`.");
  m.def("post_recv_any_size", &post_recv_any_size,
        nb::sig("def post_recv_any_size(communicator: Communicator, source: int, tag: int, "
                "channel: int = 0) -> mooncake_mpi.requests.Request"),
        "communicator"_a, "source"_a, "tag"_a, "channel"_a = 0,
        "Receive a message of any size into memory of the engine: the result is an OwnedBuffer.");
  m.def("recv_any_size", &recv_any_size,
        nb::sig("def recv_any_size(communicator: Communicator, source: int, tag: int, status: "
                "Status | None = None) -> OwnedBuffer | None"),
        "communicator"_a, "source"_a, "tag"_a, "status"_a = nb::none(),
        "Blocking form; None from PROC_NULL.");
  m.def("improbe", &improbe,
        nb::sig("def improbe(communicator: Communicator, source: int, tag: int) -> MatchedMessage "
                "| None"),
        "communicator"_a, "source"_a, "tag"_a, "Take a waiting message out of the queue, or None.");
  m.def("mprobe", &mprobe,
        nb::sig("def mprobe(communicator: Communicator, source: int, tag: int) -> MatchedMessage"),
        "communicator"_a, "source"_a, "tag"_a, "Wait for a message and take it out of the queue.");
  m.def("message_recv", &message_recv,
        nb::sig(
            "def message_recv(message: MatchedMessage, buf: Any) -> mooncake_mpi.requests.Request"),
        "message"_a, "buf"_a, "Receive a matched message: a request.");
  m.def("message_recv_any_size", &message_recv_any_size,
        nb::sig("def message_recv_any_size(message: MatchedMessage, status: Status | None = None) "
                "-> OwnedBuffer"),
        "message"_a, "status"_a = nb::none(),
        "Receive a matched message into memory of the engine.");
  m.def("message_post_recv_any_size", &message_post_recv_any_size,
        nb::sig("def message_post_recv_any_size(message: MatchedMessage) -> "
                "mooncake_mpi.requests.Request"),
        "message"_a, "Non-blocking form of message_recv_any_size.");
  m.def("give_up", &give_up, nb::sig("def give_up(request: Request) -> None"), "request"_a,
        "End a receive whose caller does not wait any more: its message is whole in the queue.");
  m.def("completed_request", &completed_request,
        nb::sig("def completed_request(source: int) -> "
                "mooncake_mpi.requests.Request"),
        "source"_a, "A request that is complete: an operation with PROC_NULL.");
  m.def(
      "wait_for_requests", &wait_requests,
      nb::sig(
          "def wait_for_requests(requests: Sequence[Request], all: bool, timeout_ms: int) -> bool"),
      "requests"_a, "all"_a, "timeout_ms"_a,
      "Wait until one (or all) of the engine's requests is complete; the requests are not ended.");
  m.def("call_when_done", &call_when_done,
        nb::sig("def call_when_done(request: Request, callable: Callable[[], Any]) -> bool"),
        "request"_a, "callable"_a,
        "Call soon after the request's operation is done, in any thread; False if it is done.");
  m.def("flush", &flush, "timeout_ms"_a,
        "Wait until every buffered message was sent; False if it took longer.");
  m.def(
      "progress", [] { return runtime().engine != nullptr ? runtime().engine->progress() : 0u; },
      "Poll once; work done.");
}

}  // namespace mooncake_mpi::bindings
