#include "memory/cuda/copy_queue.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace mooncake_mpi::cuda {

std::shared_ptr<Copy> CopyQueue::submit(const Request& request) {
  auto copy = std::make_shared<Copy>();
  copy->kind_ = request.kind;
  copy->device_ = request.device;
  copy->to_ = request.to;
  copy->from_ = request.from;
  copy->bytes_ = request.bytes;
  copy->after_ = request.after;
  std::scoped_lock lock(inbox_mutex_);
  inbox_.push_back(copy);
  active_.fetch_add(1, std::memory_order_relaxed);
  return copy;
}

void CopyQueue::defer(std::function<void()> call) {
  std::scoped_lock lock(inbox_mutex_);
  calls_.push_back(std::move(call));
  active_.fetch_add(1, std::memory_order_relaxed);
}

void CopyQueue::drop(Copy& copy) noexcept {
  auto queued = Copy::State::kQueued;
  if (copy.state_.compare_exchange_strong(queued, Copy::State::kDropped)) return;
  // It is a matter of microseconds, or of the device's end.
  for (std::uint64_t looked_ns = now_ns(); !copy.over();) {
    cpu_relax();
    if (now_ns() - looked_ns < kCheckNs) continue;
    run();
    looked_ns = now_ns();
  }
}

std::string CopyQueue::trouble() const {
  std::scoped_lock lock(inbox_mutex_);
  return trouble_;
}

// A copy is over in less time than it takes to be woken up. When a program's stream comes to a
// point nobody knows.
std::uint64_t CopyQueue::nap_ns() const noexcept {
  if (under_way_.load(std::memory_order_relaxed) != 0) return 0;
  const bool awaits = waits() || awaited_.load(std::memory_order_relaxed) != 0;
  return awaits ? 20'000 : UINT64_MAX;
}

void CopyQueue::run() {
  // What is submitted while another thread is at it, and too late for that one, waits() still.
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (lock) run_locked();
}

void CopyQueue::run_locked() {
  std::vector<std::function<void()>> calls;
  {
    std::scoped_lock lock(inbox_mutex_);
    waiting_.insert(waiting_.end(), std::make_move_iterator(inbox_.begin()),
                    std::make_move_iterator(inbox_.end()));
    inbox_.clear();
    calls.swap(calls_);
  }
  for (const auto& call : calls)
    call();
  active_.fetch_sub(static_cast<std::uint32_t>(calls.size()), std::memory_order_relaxed);

  std::erase_if(waiting_, [this](const std::shared_ptr<Copy>& copy) {
    if (copy->state_.load(std::memory_order_relaxed) != Copy::State::kDropped &&
        copy->after_ != nullptr && !copy->after_->reached() && !has_failed(copy->device_)) {
      return false;
    }
    issue(copy);
    return true;
  });
  close_batches();
  retire();
  const std::uint64_t now = now_ns();
  if (now - checked_ns_ > kCheckNs) {
    checked_ns_ = now;
    check_health();
  }
}

void CopyQueue::issue(const std::shared_ptr<Copy>& copy) {
  auto queued = Copy::State::kQueued;
  if (!copy->state_.compare_exchange_strong(queued, Copy::State::kIssuing)) {  // dropped
    active_.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  copy->after_.reset();
  copy->stream_ = has_failed(copy->device_) ? nullptr : stream_of(*copy);
  bool issued = false;
  if (copy->stream_ != nullptr) {
    auto copied = driver_.copy(*copy->stream_, copy->to_, copy->from_, copy->bytes_);
    if (!copied) note_trouble(copied.failure().message);
    issued = copied.ok();
  }
  if (issued) {
    engine_of(*copy).batch.push_back(copy);
  } else {
    copy->state_.store(Copy::State::kFailed, std::memory_order_release);
    active_.fetch_sub(1, std::memory_order_relaxed);
  }
}

CopyQueue::Engine& CopyQueue::engine_of(const Copy& copy) {
  if (engines_.empty()) engines_.resize(static_cast<std::size_t>(driver_.devices()));
  return engines_[static_cast<std::size_t>(copy.device_)][static_cast<std::size_t>(copy.kind_)];
}

cuda_driver::Stream* CopyQueue::stream_of(const Copy& copy) {
  Engine& engine = engine_of(copy);
  if (engine.stream == nullptr) {
    auto made = driver_.make_stream(copy.device_);
    if (!made) {
      note_trouble(made.failure().message);
      return nullptr;
    }
    engine.stream = made.value();
  }
  return engine.stream;
}

// One word for all that was issued in one go.
void CopyQueue::close_batches() {
  for (auto& kinds : engines_) {
    for (Engine& engine : kinds) {
      if (engine.batch.empty()) continue;
      auto closed = driver_.close_batch(*engine.stream);
      for (auto& copy : engine.batch) {
        copy->ticket_ = engine.stream->submitted;
        copy->state_.store(Copy::State::kUnderWay, std::memory_order_release);
        engine.issued.push_back(std::move(copy));
      }
      under_way_.fetch_add(static_cast<std::uint32_t>(engine.batch.size()),
                           std::memory_order_relaxed);
      engine.batch.clear();
      if (!closed) fail(engine.stream->device, closed.failure().message);
    }
  }
}

void CopyQueue::retire() {
  std::uint32_t retired = 0;
  for (auto& kinds : engines_) {
    for (Engine& engine : kinds) {
      for (; !engine.issued.empty() && engine.issued.front()->over(); ++retired)
        engine.issued.pop_front();
    }
  }
  under_way_.fetch_sub(retired, std::memory_order_relaxed);
  active_.fetch_sub(retired, std::memory_order_relaxed);
}

// A word says nothing of errors, which are for good: those of a context stay with it.
void CopyQueue::check_health() {
  for (auto& kinds : engines_) {
    for (Engine& engine : kinds) {
      if (engine.stream == nullptr || has_failed(engine.stream->device)) continue;
      auto checked = driver_.check(*engine.stream);
      if (!checked) fail(engine.stream->device, checked.failure().message);
    }
  }
}

void CopyQueue::note_trouble(const std::string& reason) {
  std::scoped_lock lock(inbox_mutex_);
  if (trouble_.empty()) trouble_ = reason;
}

void CopyQueue::fail(int device, const std::string& reason) {
  note_trouble(reason);
  if (device < kMaxDevices) {
    failed_[static_cast<std::size_t>(device)].store(true, std::memory_order_release);
  }
  for (Engine& engine : engines_[static_cast<std::size_t>(device)]) {
    for (const auto& copy : engine.issued) {
      if (!copy->over()) copy->state_.store(Copy::State::kFailed, std::memory_order_release);
    }
  }
}

}  // namespace mooncake_mpi::cuda
