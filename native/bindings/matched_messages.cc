// The matched probe: a message that is taken out of the queue, and received later. With the
// interpreter's lock (GIL) held, which a wait gives back while it sleeps.
#include <utility>

#include "bindings/checks.h"
#include "bindings/fork.h"
#include "bindings/module.h"
#include "bindings/probe_methods.h"
#include "bindings/receive_methods.h"
#include "bindings/request.h"
#include "bindings/waiting.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

// A message that a matched probe took out of the queue; received exactly once.
struct MatchedMessage {
  ContextHold hold;
  UnexpectedMessage* message;
  int source;
  int tag;
  std::uint64_t bytes;
};

UnexpectedMessage& take(MatchedMessage& matched) {
  if (left_behind()) {  // it is the parent's
    raise_unusable();
    throw nb::python_error();
  }
  if (matched.message == nullptr) {
    raise_error("ERR_REQUEST", "invalid message: it was received already");
    throw nb::python_error();
  }
  return *std::exchange(matched.message, nullptr);
}

nb::object probe_matched(Communicator& communicator, Int given_source, Int given_tag, bool blocking,
                         MatchChannel channel) {
  int source = given_source.number();
  int tag = given_tag.number();
  check_receive(communicator, source, tag, channel);
  Engine::Envelope envelope{};
  ContextHold hold(communicator);
  UnexpectedMessage* message = nullptr;
  // A wait may ask once more after it was told yes; a second message must not be taken then.
  auto found = [&] {
    return message != nullptr ||
           runtime().engine->iprobe(hold.context(), source, tag, envelope, &message, channel);
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
    raise_no_message(envelope.error, hold.context(), source);
    throw nb::python_error();
  }
  return nb::cast(
      MatchedMessage{std::move(hold), message, envelope.source, envelope.tag, envelope.bytes});
}

nb::object improbe(Communicator& communicator, Int source, Int tag, MatchChannel channel) {
  return probe_matched(communicator, source, tag, false, channel);
}

nb::object mprobe(Communicator& communicator, Int source, Int tag) {
  return probe_matched(communicator, source, tag, true, MatchChannel::kMessages);
}

// The message stays matched where its receive cannot be made.
Operation* receive(MatchedMessage& matched, const Buffer* buffer) {
  UnexpectedMessage& message = take(matched);
  try {
    return runtime().engine->receive_matched(matched.hold.context(), message, buffer);
  } catch (...) {
    matched.message = &message;
    throw;
  }
}

Operation* receive(MatchedMessage& matched, nb::handle buf, BufferView& view) {
  require(view.acquire(buf.ptr(), true, matched.source));
  const Buffer& buffer = view.buffer();
  if (buffer.device == nullptr) return receive(matched, &buffer);
  UnexpectedMessage& message = take(matched);
  Operation* operation =
      post_receive_to_device(matched.hold.context(), buffer, matched.source, matched.tag, &message);
  if (operation == nullptr) {
    matched.message = &message;
    throw nb::python_error();
  }
  return operation;
}

void message_recv(MatchedMessage& matched, nb::object buf, nb::object status) {
  require(check_status(status.ptr()));
  BufferView view;
  Operation* operation = receive(matched, buf, view);
  steal_or_throw(wait_receive(*operation, view, status.ptr()));
}

nb::object message_post_recv(MatchedMessage& matched, nb::object buf) {
  BufferView view;
  Operation* operation = receive(matched, buf, view);
  return steal_or_throw(new_request(operation, {}, std::move(view)));
}

nb::object message_recv_any_size(MatchedMessage& matched, nb::object status) {
  require(check_status(status.ptr()));
  Operation* operation = receive(matched, nullptr);
  BufferView view;
  return steal_or_throw(wait_receive(*operation, view, status.ptr(), Received::kMemory));
}

nb::object message_post_recv_any_size(MatchedMessage& matched) {
  Operation* operation = receive(matched, nullptr);
  return steal_or_throw(new_request(operation, {}, BufferView(), MatchChannel::kMessages, true));
}

}  // namespace

void define_matched_messages(nb::module_& m) {
  nb::class_<MatchedMessage>(m, "MatchedMessage", "A message taken by a matched probe.")
      .def_ro("source", &MatchedMessage::source)
      .def_ro("tag", &MatchedMessage::tag)
      .def_ro("nbytes", &MatchedMessage::bytes)
      .def_prop_ro("received", [](const MatchedMessage& self) { return self.message == nullptr; });

  m.def("improbe", &improbe,
        nb::sig("def improbe(communicator: Communicator, source: int, tag: int, "
                "channel: MatchChannel = mooncake_mpi._native.MatchChannel.MESSAGES) -> "
                "MatchedMessage | None"),
        "communicator"_a, "source"_a, "tag"_a, "channel"_a = MatchChannel::kMessages,
        "Take a waiting message out of the queue, or None.");
  m.def("mprobe", &mprobe,
        nb::sig("def mprobe(communicator: Communicator, source: int, tag: int) -> MatchedMessage"),
        "communicator"_a, "source"_a, "tag"_a, "Wait for a message and take it out of the queue.");
  m.def("message_recv", &message_recv,
        nb::sig("def message_recv(message: MatchedMessage, buf: Any, status: Status | None = None) "
                "-> None"),
        "message"_a, "buf"_a, "status"_a = nb::none(), "Receive a matched message into `buf`.");
  m.def("message_post_recv", &message_post_recv,
        nb::sig("def message_post_recv(message: MatchedMessage, buf: Any) -> "
                "mooncake_mpi.requests.Request"),
        "message"_a, "buf"_a, "Non-blocking form of message_recv.");
  m.def("message_recv_any_size", &message_recv_any_size,
        nb::sig("def message_recv_any_size(message: MatchedMessage, status: Status | None = None) "
                "-> OwnedBuffer"),
        "message"_a, "status"_a = nb::none(),
        "Receive a matched message into memory of the engine.");
  m.def("message_post_recv_any_size", &message_post_recv_any_size,
        nb::sig("def message_post_recv_any_size(message: MatchedMessage) -> "
                "mooncake_mpi.requests.Request"),
        "message"_a, "Non-blocking form of message_recv_any_size.");
}

}  // namespace mooncake_mpi::bindings
