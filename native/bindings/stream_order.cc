// Messages in the order of a stream of the program's: Send_enqueue and its kin. With the
// interpreter's lock (GIL) held, but while the driver is asked and where it says otherwise.
#include "bindings/stream_order.h"

#include <string>
#include <utility>

#include "bindings/checks.h"
#include "bindings/device_array.h"
#include "bindings/graph_message.h"
#include "bindings/interpreter_lock.h"
#include "bindings/module.h"
#include "bindings/notices.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"
#include "bindings/stream_endings.h"
#include "bindings/stream_place.h"
#include "memory/cuda/gpu_memory.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

using Way = cuda::StreamEnd::Way;

template <class T>
T unlocked_or_throw(auto&& call) {
  Result<T> result = [&] {
    const InterpreterUnlocked unlocked;
    return call();
  }();
  return value_or_throw(std::move(result));
}

// The stream of a message's end, and what is to be done for it when the message has ended.
struct StreamEndObject {
  cuda::GpuMemory& memory;
  std::unique_ptr<cuda::StreamEnd> end;
  Way way;
  cuda_driver::DeviceAddress array;
  std::shared_ptr<cuda::Copy> copy;  // a receive that the host waits for

  ~StreamEndObject() {
    if (end->work() != nullptr) end->work()->refuse();        // where it came to no wait
    while (copy != nullptr && !memory.queue().drop(*copy)) {  // it writes to the program's memory
    }
  }
};

// A call that was refused by the driver half-way: nothing of it may stay behind.
void withdraw(Operation& operation, BufferView&& view) {
  runtime().engine->cancel(operation, MatchChannel::kMessages);
  notices().adopt(operation, std::move(view));
}

// What `stream` is given from now on comes after the message, which may be done already. False,
// with why, where the driver has refused.
Result<bool> finish(StreamEndObject& object, Operation* operation,
                    cuda_driver::StreamHandle stream) {
  cuda::StreamEnd& end = *object.end;
  Result<int> device = end.device();
  if (stream != end.stream()) device = object.memory.driver().device_of(stream, end.device());
  if (!device) return device.failure();
  if (end.work() != nullptr) {
    auto waits = end.wait_with_work(stream);
    if (!waits) return waits;
    auto* keeper = new GateKeeper(cuda::Gate(), end.work());
    if (!runtime().engine->watch_completion(*operation, *keeper)) keeper->on_done();
    return true;
  }
  if (end.is_awaited() && operation != nullptr && !is_finished(*operation)) {
    auto gate = end.wait(device.value(), stream);
    if (!gate) return gate.failure();
    auto* keeper = new GateKeeper(std::move(gate).value());
    if (!runtime().engine->watch_completion(*operation, *keeper)) keeper->on_done();
  }
  return end.land(device.value(), stream);
}

struct Enqueued {
  Operation* operation = nullptr;
  BufferView view;
  StreamEndObject* end = nullptr;
};

void check_memory(const BufferView& view) {
  const bool packed = view.resolved() && view.buffer().device == nullptr;
  if (view.finish() == nullptr && !packed) return;
  raise_error(
      Error::kBuffer,
      "memory that is used in a stream's order has to be contiguous, without a datatype that is "
      "packed");
  throw nb::python_error();
}

void check_captured(Way way, int rank, int tag, bool request) {
  if (request) {
    raise_error(
        "ERR_REQUEST",
        "a request cannot be captured into a CUDA graph: Send_enqueue and Recv_enqueue can");
  } else if (way == Way::kReceive && (rank == kAnySource || tag == kAnyTag)) {
    raise_error("ERR_ARG",
                "a message that is captured into a CUDA graph needs a rank and a tag: ANY_SOURCE "
                "and ANY_TAG cannot be captured");
  } else {
    return;
  }
  throw nb::python_error();
}

// Posts the message: from the program's thread, so that messages match in the order of the calls.
// Where the stream is being captured it becomes part of a graph, and there is no operation.
Enqueued start(Communicator& communicator, Way way, nb::object buf, int rank, int tag,
               nb::object stream, bool request) {
  if (!runtime().engine->config().progress_thread) {
    raise_error(Error::kOther,
                "messages in a stream's order need the progress thread, which is switched off "
                "(MOONCAKE_MPI_PROGRESS_THREAD)");
    throw nb::python_error();
  }
  Enqueued started;
  require(started.view.acquire(buf.ptr(), way == Way::kReceive, rank));
  check_memory(started.view);
  require_usable(communicator);  // after code of the program, which may free it
  const Buffer buffer = started.view.buffer();
  const auto handle = stream.is_none() ? buffer.stream : nb::cast<std::uintptr_t>(stream);
  // One of a GPU's array has a stream, without a byte too.
  if (stream.is_none() && buffer.device == nullptr && buffer.stream == 0) {
    raise_error("ERR_ARG", "stream: memory of the host has none of its own");
    throw nb::python_error();
  }
  ContextHold hold(communicator);
  cuda::GpuMemory& memory = *value_or_throw(gpu_memory());
  const Place place = unlocked_or_throw<Place>([&] { return place_of(memory, buffer, handle); });
  if (place.captured) {
    check_captured(way, rank, tag, request);
    unlocked_or_throw<bool>([&] {
      return GraphMessage::capture(memory, way, std::move(hold), rank, tag, buffer, place.device,
                                   handle);
    });
    return started;
  }
  auto object = std::unique_ptr<StreamEndObject>(
      new StreamEndObject{memory, memory.stream_end(), way,
                          reinterpret_cast<cuda_driver::DeviceAddress>(buffer.address), nullptr});
  cuda::StreamEnd& end = *object->end;
  using Then = cuda::StreamEnd::Then;
  const bool direct =
      rank != kAnySource && runtime().engine->ways().devices_meet(hold.context(), rank);
  const Then then = request ? Then::kGoesOn : direct ? Then::kWaitsForDevice : Then::kWaits;
  started.operation = unlocked_or_throw<Operation*>([&]() -> Result<Operation*> {
    auto begun =
        end.begin(way, buffer, place.allocation, place.device, handle, memory.blocks(), then);
    if (!begun) return begun.failure();
    const bool with_work = end.work() != nullptr;
    // Where it is refused the stream brings the bytes by way of the host.
    if (with_work && way == Way::kSend) {
      static_cast<void>(memory.learn_handle(place.allocation));
    }
    const Buffer ordered{nullptr, buffer.bytes,
                         &memory.in_stream_order(buffer.device == nullptr, with_work), handle};
    Engine& engine = *runtime().engine;
    if (way == Way::kReceive) {
      return engine.receive_into(hold.context(), MatchChannel::kMessages, rank, tag, ordered,
                                 std::make_unique<cuda::StreamSink>(end.turn(), memory.queue()));
    }
    return engine.send(hold.context(), MatchChannel::kMessages, rank, tag, ordered,
                       SendMode::kStandard,
                       std::make_unique<cuda::StreamSource>(end.turn(), memory.queue()));
  });
  started.end = object.release();
  return started;
}

int checked_rank(Communicator& communicator, Way way, Int given, int& tag) {
  int rank = given.number();
  require_usable(communicator);
  if (way == Way::kReceive) {
    check_receive(communicator, rank, tag, MatchChannel::kMessages);
  } else {
    require(check_dest(communicator, rank) && check_send_tag(communicator, tag));
  }
  if (rank == runtime().constants.proc_null) require(check_not_revoked(communicator));
  return rank;
}

// The call's message and the stream's wait for its end.
void enqueue(Communicator& communicator, bool send, nb::object buf, Int given_rank, Int given_tag,
             nb::object stream) {
  const Way way = send ? Way::kSend : Way::kReceive;
  notices().settle();
  int tag = given_tag.number();
  const int rank = checked_rank(communicator, way, given_rank, tag);
  if (rank == runtime().constants.proc_null) return;
  Enqueued started = start(communicator, way, std::move(buf), rank, tag, std::move(stream), false);
  if (started.operation == nullptr) return;
  const std::unique_ptr<StreamEndObject> end(started.end);
  Operation& operation = *started.operation;
  Result<bool> finished = [&] {
    const InterpreterUnlocked unlocked;
    return finish(*end, &operation, end->end->stream());
  }();
  if (!finished) {
    withdraw(operation, std::move(started.view));
    throw EngineFailure(finished.failure());
  }
  runtime().engine->entrust(operation);
  settle_when_done(operation, new Unattended(operation, std::move(started.view)));
}

nb::tuple start_enqueued(Communicator& communicator, bool send, nb::object buf, Int given_rank,
                         Int given_tag, nb::object stream) {
  const Way way = send ? Way::kSend : Way::kReceive;
  notices().settle();
  int tag = given_tag.number();
  const int rank = checked_rank(communicator, way, given_rank, tag);
  if (rank == runtime().constants.proc_null) {
    nb::object request = steal_or_throw(new_request(nullptr, proc_null_completion(), BufferView()));
    return nb::make_tuple(request, nb::none());
  }
  Enqueued started = start(communicator, way, std::move(buf), rank, tag, std::move(stream), true);
  std::unique_ptr<StreamEndObject> end(started.end);
  nb::object request = steal_or_throw(new_request(started.operation, {}, std::move(started.view)));
  runtime().engine->entrust(*started.operation);
  return nb::make_tuple(request, nb::cast(end.release(), nb::rv_policy::take_ownership));
}

// What it has of its operation, which somebody else ends; it is null from now on.
BufferView take_from(RequestObject& request) noexcept {
  request.operation = nullptr;
  request.state = RequestObject::State::kNull;
  return std::move(request.view);
}

// The stream goes on when the request is complete; it is null from now on.
void finish_enqueued(StreamEndObject& object, nb::object given, nb::object stream) {
  RequestObject* request = plain_owner(given.ptr());
  if (request == nullptr || request->state != RequestObject::State::kActive) return;
  const auto handle = stream.is_none() ? object.end->stream() : nb::cast<std::uintptr_t>(stream);
  Operation* operation = request->operation;
  unlocked_or_throw<bool>([&] { return finish(object, operation, handle); });
  BufferView view = take_from(*request);
  if (operation != nullptr) {
    settle_when_done(*operation, new Unattended(*operation, std::move(view)));
  }
}

// The request is dropped, and no stream waits: the operation ends by itself.
void leave_enqueued(StreamEndObject& object, nb::object given) {
  RequestObject* request = plain_owner(given.ptr());
  if (request == nullptr || request->state != RequestObject::State::kActive) return;
  Operation* operation = request->operation;
  BufferView view = take_from(*request);
  if (operation == nullptr) return;
  const cuda::Turn& turn = object.end->turn();
  if (object.way == Way::kSend || turn.block == nullptr) {
    settle_when_done(*operation, new Unattended(*operation, std::move(view)));
  } else {
    settle_when_done(*operation,
                     new Landing(*operation, std::move(view), object.memory, turn, object.array));
  }
}

// Of a request that is complete: whether the program finds the message in its array. Begins to
// bring it there.
bool landed(StreamEndObject& object, nb::object given) {
  const cuda::Turn& turn = object.end->turn();
  if (object.way == Way::kSend || turn.block == nullptr) return true;
  const RequestObject* request = plain_owner(given.ptr());
  if (request == nullptr || request->operation == nullptr) return true;
  if (!has_bytes(request->operation->completion)) return true;
  if (object.copy == nullptr) object.copy = bring(object.memory, turn, object.array);
  runtime().engine->progress();
  if (!object.copy->over()) return false;
  if (object.copy->failed()) throw EngineFailure({Error::kBuffer, object.memory.queue().trouble()});
  return true;
}

}  // namespace

void open_all_gates() noexcept {
  GateKeeper::open_all();
  GraphMessage::end_all();
}

void define_stream_order(nb::module_& m) {
  nb::class_<StreamEndObject>(m, "StreamEnd", "The end of a message in the order of a stream.")
      .def("finish", &finish_enqueued, "request"_a, "stream"_a.none(),
           "What `stream` (None: that of the call) is given from now on comes after the message of "
           "`request`, which is null then.")
      .def("leave", &leave_enqueued, "request"_a,
           "Have the message of `request`, which is null then, arrive by itself.")
      .def("landed", &landed, "request"_a,
           "Once `request` is complete: whether the message, if any, is in the program's array.");
  m.def("enqueue", &enqueue, "communicator"_a, "send"_a, "buf"_a, "rank"_a, "tag"_a,
        "stream"_a.none(),
        "Send or receive in the order of a stream (None: that of the array), which waits for the "
        "end.");
  m.def(
      "start_enqueued", &start_enqueued,
      nb::sig("def start_enqueued(communicator: Communicator, send: bool, buf: object, rank: int, "
              "tag: int, stream: object | None) -> tuple[Any, Any]"),
      "communicator"_a, "send"_a, "buf"_a, "rank"_a, "tag"_a, "stream"_a.none(),
      "The same as a request, and the StreamEnd that finishes it; None where there is nothing to "
      "finish.");
}

}  // namespace mooncake_mpi::bindings
