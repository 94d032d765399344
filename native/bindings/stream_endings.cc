#include "bindings/stream_endings.h"

#include <mutex>
#include <new>
#include <unordered_set>

#include "bindings/communicator.h"
#include "bindings/request_completion.h"
#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {
namespace {

std::mutex& keepers_mutex() noexcept {
  static auto* instance = new std::mutex;
  return *instance;
}

std::unordered_set<GateKeeper*>& all_keepers() noexcept {
  static auto* instance = new std::unordered_set<GateKeeper*>;
  return *instance;
}

}  // namespace

GateKeeper::GateKeeper(cuda::Gate gate, std::shared_ptr<cuda::StreamWork> work)
    : gate_(std::move(gate)), work_(std::move(work)) {
  static std::uint64_t last = 0;
  const std::scoped_lock lock(keepers_mutex());
  number_ = ++last;
  all_keepers().insert(this);
}

void GateKeeper::on_done() noexcept {
  {
    const std::scoped_lock lock(keepers_mutex());
    all_keepers().erase(this);
    let_go();
  }
  delete this;
}

void GateKeeper::open(std::uint64_t number) noexcept {
  const std::scoped_lock lock(keepers_mutex());
  for (GateKeeper* keeper : all_keepers())
    if (keeper->number_ == number) keeper->let_go();
}

void GateKeeper::open_all() noexcept {
  const std::scoped_lock lock(keepers_mutex());
  for (GateKeeper* keeper : all_keepers())
    keeper->let_go();
}

void GateKeeper::let_go() noexcept {
  gate_.open();
  if (work_ != nullptr) work_->order({});  // where nothing was ordered before
}

void Unattended::settle() {
  const Completion completion = operation_.completion;
  if (completion.error != Error::kNone) {
    Communicator::note_failure(context_, completion.error,
                               completion_message(completion.error, completion));
  }
  end_unwatched(operation_, view_);
}

Landing::Landing(Operation& operation, BufferView&& view, cuda::GpuMemory& memory,
                 const cuda::Turn& turn, cuda_driver::DeviceAddress array)
    : operation_(operation),
      memory_(memory),
      array_(array),
      kept_(new Kept(std::move(view), turn), [](Kept* kept) { kept->on_done(); }) {}

void Landing::settle() {
  try {
    if (has_bytes(operation_.completion)) bring(memory_, kept_->turn, array_, kept_);
  } catch (const std::bad_alloc&) {  // the array stays as it was
  }
  Unattended(operation_, BufferView()).settle();
  runtime().engine->progress();
}

bool has_bytes(const Completion& completion) noexcept {
  return (completion.error == Error::kNone || completion.error == Error::kTruncate) &&
         !completion.cancelled;
}

std::shared_ptr<cuda::Copy> bring(cuda::GpuMemory& memory, const cuda::Turn& turn,
                                  cuda_driver::DeviceAddress array,
                                  std::shared_ptr<const void> kept) {
  return memory.queue().submit({.kind = cuda::Copy::Kind::kUp,
                                .device = turn.device,
                                .to = array,
                                .from = reinterpret_cast<cuda_driver::DeviceAddress>(turn.memory),
                                .bytes = turn.bytes,
                                .after = nullptr,
                                .kept = std::move(kept)});
}

void settle_when_done(Operation& operation, Notices::Notice* notice) {
  if (runtime().engine->watch_completion(operation, *notice)) return;
  notice->settle();
  delete notice;
}

}  // namespace mooncake_mpi::bindings
