// A stream of the program's comes to wait for a receive that was posted before, in the place of the
// program itself. With the interpreter's lock (GIL) held, but while the driver is asked.
#include <memory>
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
bool comes_soon(const Operation& receive) {
  constexpr std::uint64_t kSoonNs = 40'000;
  Engine& engine = *runtime().engine;
  if (engine.oversubscribed()) return is_finished(receive);
  const std::uint64_t until = now_ns() + kSoonNs;
  while (!is_finished(receive) && now_ns() < until)
    engine.progress();
  return is_finished(receive);
}

struct StreamWait {
  std::shared_ptr<cuda::StreamWork> work;
};

// nullptr: the program has to wait itself, or the receive is over.
Result<std::shared_ptr<cuda::StreamWork>> take_over(cuda::GpuMemory& memory, Operation& receive,
                                                    const Buffer& buffer,
                                                    cuda_driver::StreamHandle stream) {
  using Work = std::shared_ptr<cuda::StreamWork>;
  if (comes_soon(receive)) return Work();
  auto place = place_of(memory, buffer, stream);
  if (!place) return place.failure();
  if (place.value().captured || place.value().device != place.value().allocation.device) {
    return Work();
  }
  const std::unique_ptr<cuda::StreamEnd> end = memory.stream_end();
  auto begun =
      end->begin(cuda::StreamEnd::Way::kReceive, buffer, place.value().allocation,
                 place.value().device, stream, memory.blocks(), cuda::StreamEnd::Then::kTakesOver);
  if (!begun) return begun.failure();
  Work work = end->work();
  if (work == nullptr) return work;
  constexpr bool kIsHost = false;
  constexpr bool kWithWork = true;
  Engine& engine = *runtime().engine;
  auto sink = std::make_unique<cuda::StreamSink>(end->turn(), memory.queue());
  if (!engine.redirect(receive, memory.in_stream_order(kIsHost, kWithWork), std::move(sink))) {
    return Work();
  }
  auto waits = end->wait_with_work(stream);
  if (!waits) return waits.failure();
  auto* keeper = new GateKeeper(cuda::Gate(), work);
  if (!engine.watch_completion(receive, *keeper)) keeper->on_done();
  engine.entrust(receive);
  return work;
}

// None: the program has to wait itself, or the receive is over.
nb::object wait_in_stream(nb::object given, std::uintptr_t stream) {
  RequestObject* request = plain_owner(given.ptr());
  if (request == nullptr || request->state != RequestObject::State::kActive) return nb::none();
  Operation* operation = request->operation;
  if (operation == nullptr || is_finished(*operation)) return nb::none();
  const Buffer buffer = request->view.buffer();
  cuda::GpuMemory* memory = cuda::known_gpu_memory();
  const bool is_array = memory != nullptr && buffer.device == memory && buffer.bytes != 0;
  if (!is_array || request->view.finish() != nullptr ||
      operation->kind != Operation::Kind::kReceive || !runtime().engine->config().progress_thread) {
    return nb::none();
  }
  Result<std::shared_ptr<cuda::StreamWork>> work = [&] {
    const InterpreterUnlocked unlocked;
    return take_over(*memory, *operation, buffer, stream);
  }();
  auto taken = value_or_throw(std::move(work));
  return taken != nullptr ? nb::cast(StreamWait{std::move(taken)}) : nb::none();
}

}  // namespace

void define_stream_waits(nb::module_& m) {
  nb::class_<StreamWait>(m, "StreamWait", "The wait of a stream for a receive.")
      .def(
          "over", [](const StreamWait& wait) { return wait.work->done() || wait.work->refused(); },
          "Whether the stream has come behind the message.");
  m.def(
      "wait_in_stream", &wait_in_stream,
      nb::sig("def wait_in_stream(request: Request, stream: int) -> StreamWait | None"),
      "request"_a, "stream"_a,
      "Have a stream wait for a receive into a GPU's array that is under way, so that what it is "
      "given from now on comes after the message. None: that receive is over, which is looked for "
      "a few microseconds, or the caller has to wait for it.");
}

}  // namespace mooncake_mpi::bindings
