// A stream of the program's comes to wait for a message that was posted before, in the place of the
// program itself. With the interpreter's lock (GIL) held, but while the driver is asked.
#include <memory>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "bindings/checks.h"
#include "bindings/device_array.h"
#include "bindings/interpreter_lock.h"
#include "bindings/module.h"
#include "bindings/request.h"
#include "bindings/stream_endings.h"
#include "bindings/stream_place.h"
#include "memory/cuda/gpu_memory.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

// To give a stream its wait takes as long as a small message does; who hears of it here first goes
// on sooner.
bool ends_soon(const Operation& operation) {
  constexpr std::uint64_t kSoonNs = 40'000;
  Engine& engine = *runtime().engine;
  if (engine.oversubscribed()) return is_finished(operation);
  const std::uint64_t until = now_ns() + kSoonNs;
  while (!is_finished(operation) && now_ns() < until)
    engine.progress();
  return is_finished(operation);
}

struct StreamWait {
  // Of a device that has failed nobody waits for a stream.
  bool over() const noexcept {
    if (cuda::known_gpu_memory()->queue().has_failed(device)) return true;
    return work != nullptr ? work->done() || work->refused() : passed->reached();
  }

  int device = -1;
  std::shared_ptr<cuda::StreamWork> work;      // of a receive
  std::shared_ptr<const cuda::Moment> passed;  // the stream has come behind a send
  std::uint64_t keeper = 0;                    // what ends the wait for that
};

// Nothing: the program has to wait itself, or the message is over.
using Taken = Result<std::optional<StreamWait>>;

Taken take_receive(cuda::GpuMemory& memory, Operation& receive, const Buffer& buffer,
                   cuda_driver::StreamHandle stream) {
  const std::optional<StreamWait> none;
  if (ends_soon(receive)) return none;
  auto place = place_of(memory, buffer, stream);
  if (!place) return place.failure();
  const int device = place.value().device;
  if (place.value().captured || device != place.value().allocation.device) return none;
  const std::unique_ptr<cuda::StreamEnd> end = memory.stream_end();
  auto begun = end->begin(cuda::StreamEnd::Way::kReceive, buffer, place.value().allocation, device,
                          stream, memory.blocks(), cuda::StreamEnd::Then::kTakesOver);
  if (!begun) return begun.failure();
  std::shared_ptr<cuda::StreamWork> work = end->work();
  if (work == nullptr) return none;
  constexpr bool kIsHost = false;
  constexpr bool kWithWork = true;
  Engine& engine = *runtime().engine;
  auto sink = std::make_unique<cuda::StreamSink>(end->turn(), memory.queue());
  if (!engine.redirect(receive, memory.in_stream_order(kIsHost, kWithWork), std::move(sink))) {
    return none;
  }
  auto waits = end->wait_with_work(stream);
  if (!waits) return waits.failure();
  auto* keeper = new GateKeeper(cuda::Gate(), work);
  if (!engine.watch_completion(receive, *keeper)) keeper->on_done();
  engine.entrust(receive);
  return std::optional(StreamWait{device, std::move(work), nullptr, 0});
}

// What the stream is given from now on may write the array.
Taken take_send(cuda::GpuMemory& memory, Operation& send, const Buffer& buffer,
                cuda_driver::StreamHandle stream) {
  const std::optional<StreamWait> none;
  if (ends_soon(send)) return none;
  auto place = place_of(memory, buffer, stream);
  if (!place) return place.failure();
  if (place.value().captured) return none;
  const int device = place.value().device;
  auto gate = memory.gates().close(device, stream);
  if (!gate) return gate.failure();
  constexpr bool kBusy = true;
  auto passed = memory.moments().take(device, stream, cuda::Moments::Heard::kByNobody, kBusy);
  if (!passed) return passed.failure();
  auto behind = std::make_shared<const cuda::Moment>(std::move(passed).value());
  auto* keeper = new GateKeeper(std::move(gate).value());
  StreamWait wait{device, nullptr, std::move(behind), keeper->number()};
  Engine& engine = *runtime().engine;
  if (!engine.watch_completion(send, *keeper)) keeper->on_done();
  engine.entrust(send);
  return std::optional(std::move(wait));
}

// None: the program has to wait itself, or the message is over.
nb::object wait_in_stream(nb::object given, std::uintptr_t stream) {
  RequestObject* request = plain_owner(given.ptr());
  if (request == nullptr || request->state != RequestObject::State::kActive) return nb::none();
  Operation* operation = request->operation;
  if (operation == nullptr || is_finished(*operation)) return nb::none();
  const Buffer buffer = request->view.buffer();
  cuda::GpuMemory* memory = cuda::known_gpu_memory();
  const bool is_array = memory != nullptr && buffer.device == memory && buffer.bytes != 0;
  const bool sends = operation->kind == Operation::Kind::kSend;
  if (!is_array || (!sends && request->view.finish() != nullptr) ||
      !runtime().engine->config().progress_thread) {
    return nb::none();
  }
  Taken taken = [&] {
    const InterpreterUnlocked unlocked;
    return sends ? take_send(*memory, *operation, buffer, stream)
                 : take_receive(*memory, *operation, buffer, stream);
  }();
  std::optional<StreamWait> wait = value_or_throw(std::move(taken));
  return wait ? nb::cast(std::move(*wait)) : nb::none();
}

}  // namespace

void define_stream_waits(nb::module_& m) {
  nb::class_<StreamWait>(m, "StreamWait", "The wait of a stream for a message.")
      .def("over", &StreamWait::over, "Whether the stream has come behind the message.")
      .def(
          "let_go", [](const StreamWait& wait) { GateKeeper::open(wait.keeper); },
          "Of a send: the stream goes on though the message was not taken.");
  m.def("wait_in_stream", &wait_in_stream,
        nb::sig("def wait_in_stream(request: Request, stream: int) -> StreamWait | None"),
        "request"_a, "stream"_a,
        "Have a stream wait for a message of a GPU's array that is under way, so that what it is "
        "given from now on comes after the message. None: that one is over, which is looked for a "
        "few microseconds, or the caller has to wait for it.");
}

}  // namespace mooncake_mpi::bindings
