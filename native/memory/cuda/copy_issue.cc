// How the copies of the queue reach the driver: in batches where it takes those, else one by one.
// Called by the one thread that runs the queue, without the engine's lock.
#include <algorithm>
#include <new>
#include <utility>

#include "memory/cuda/copy_queue.h"

namespace mooncake_mpi::cuda {

void CopyQueue::issue_all() noexcept {
  for (auto& kinds : engines_) {
    for (Engine& engine : kinds) {
      if (engine.next.empty()) continue;
      const bool together = issue_together(engine);
      for (auto& copy : engine.next) {
        if (together || issue(*copy, engine)) {
          copy->stream_ = engine.stream.made();
          engine.batch.push_back(std::move(copy));
        } else {
          copy->state_.store(Copy::State::kFailed, std::memory_order_release);
          active_.fetch_sub(1, std::memory_order_relaxed);
        }
      }
      engine.next.clear();
    }
  }
}

// False where one by one it has to be: also to know which of them is wrong.
bool CopyQueue::issue_together(Engine& engine) noexcept {
  const int device = engine.next.front()->device_;
  const bool plain = std::ranges::all_of(
      engine.next, [](const auto& copy) { return copy->rows_ == 1 && copy->bytes_ != 0; });
  if (engine.next.size() < 2 || !plain || !driver_.copies_batches() || has_failed(device)) {
    return false;
  }
  try {
    auto stream = stream_of(engine, device);
    if (!stream) return false;
    parts_.to.clear();
    parts_.from.clear();
    parts_.bytes.clear();
    for (const auto& copy : engine.next) {
      parts_.to.push_back(copy->to_);
      parts_.from.push_back(copy->from_);
      parts_.bytes.push_back(copy->bytes_);
    }
    return driver_.copy_batch(*stream.value(), parts_).ok();
  } catch (const std::bad_alloc&) {
    return false;
  }
}

bool CopyQueue::issue(const Copy& copy, Engine& engine) noexcept {
  if (has_failed(copy.device_)) return false;
  try {
    auto stream = stream_of(engine, copy.device_);
    if (!stream) return false;
    const auto handle = reinterpret_cast<cuda_driver::StreamHandle>(stream.value()->handle);
    auto copied = copy.rows_ == 1
                      ? driver_.copy(*stream.value(), copy.to_, copy.from_, copy.bytes_)
                      : driver_.copy_rows_in(copy.device_, handle, {copy.to_, copy.to_pitch_},
                                             {copy.from_, copy.bytes_}, copy.bytes_, copy.rows_);
    if (!copied) note_trouble(copied.failure().message);
    return copied.ok();
  } catch (const std::bad_alloc&) {  // for a failure's words
    return false;
  }
}

CopyQueue::Engine& CopyQueue::engine_of(int device, Copy::Kind kind) noexcept {
  return engines_[static_cast<std::size_t>(device)][static_cast<std::size_t>(kind)];
}

Result<cuda_driver::Stream*> CopyQueue::stream_of(Engine& engine, int device) {
  auto stream = engine.stream.get(driver_, device);
  if (!stream) note_trouble(stream.failure().message);
  return stream;
}

// What the engines are given now comes before every wait of a stream of the program's, or nothing
// is given to them. A driver that refuses to be asked refuses the copy, too.
void CopyQueue::look_for_streams(bool may_issue) noexcept {
  if (waiting_.empty() || (may_issue && !gates_.some_closed())) return;
  for (std::size_t device = 0; device < engines_.size(); ++device) {
    for (Engine& engine : engines_[device]) {
      if (engine.waiting == 0 || !engine.has_room) continue;
      engine.has_room = may_issue;
      if (!may_issue || has_failed(static_cast<int>(device))) continue;
      try {
        auto runs = engine.stream.runs_since(gates_.latest(), !engine.issued.empty(), driver_,
                                             static_cast<int>(device));
        engine.has_room = !runs || runs.value();
      } catch (const std::bad_alloc&) {
        engine.has_room = false;
      }
    }
  }
}

// One word for all that was issued in one go. Without it nobody would ever know that they are done.
void CopyQueue::close_batches() noexcept {
  for (auto& kinds : engines_) {
    for (Engine& engine : kinds) {
      if (engine.batch.empty()) continue;
      cuda_driver::Stream& stream = *engine.stream.made();
      const bool closed = close(stream);
      const auto count = static_cast<std::uint32_t>(engine.batch.size());
      for (auto& copy : engine.batch) {
        copy->ticket_ = stream.submitted;
        copy->state_.store(closed ? Copy::State::kUnderWay : Copy::State::kFailed,
                           std::memory_order_release);
        if (closed) engine.issued.push_back(std::move(copy));
      }
      engine.batch.clear();
      if (closed) {
        under_way_.fetch_add(count, std::memory_order_relaxed);
      } else {
        active_.fetch_sub(count, std::memory_order_relaxed);
        fail(stream.device);
      }
    }
  }
}

bool CopyQueue::close(cuda_driver::Stream& stream) noexcept {
  try {
    auto closed = driver_.close_batch(stream);
    if (!closed) note_trouble(closed.failure().message);
    return closed.ok();
  } catch (const std::bad_alloc&) {
    return false;
  }
}

}  // namespace mooncake_mpi::cuda
