#include "memory/cuda/copy_queue.h"

#include <algorithm>
#include <bit>
#include <new>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/start_thread.h"
#include "drivers/linux/futex.h"

namespace mooncake_mpi::cuda {

std::shared_ptr<Copy> CopyQueue::submit(const Request& request) {
  auto copy = std::make_shared<Copy>();
  copy->kind_ = request.kind;
  copy->device_ = request.device;
  copy->to_ = request.to;
  copy->from_ = request.from;
  copy->bytes_ = request.bytes;
  copy->after_ = request.after;
  copy->rows_ = request.rows;
  copy->to_pitch_ = request.to_pitch;
  copy->reachable_ = request.reachable;
  copy->kept_ = request.kept;
  std::scoped_lock lock(inbox_mutex_);
  inbox_.push_back(copy);
  active_.fetch_add(1, std::memory_order_relaxed);
  return copy;
}

void CopyQueue::defer(std::function<void()> call) {
  std::scoped_lock lock(inbox_mutex_);
  new_calls_.push_back(std::move(call));
  active_.fetch_add(1, std::memory_order_relaxed);
}

bool CopyQueue::drop(Copy& copy) noexcept {
  if (withdraw(copy)) return true;
  // It is a matter of microseconds, or of the device's end; of neither where the stream of a
  // program holds up the engine's.
  const std::uint64_t began_ns = now_ns();
  for (std::uint64_t looked_ns = began_ns; !copy.over();) {
    cpu_relax();
    const std::uint64_t now = now_ns();
    if (now - looked_ns < kCheckNs) continue;
    if (now - began_ns > kStuckNs && gates_.some_closed()) return false;
    run();
    looked_ns = now;
  }
  return true;
}

std::string CopyQueue::trouble() const {
  std::scoped_lock lock(inbox_mutex_);
  return trouble_;
}

// A copy is over in less time than it takes to be woken up. When a program's stream comes to a
// point nobody knows.
std::uint64_t CopyQueue::nap_ns() const noexcept {
  if (under_way_.load(std::memory_order_relaxed) != 0) return 0;
  if (moments_.awaited_devices() != 0 && moments_.some_are_soon()) return 0;
  const bool awaits =
      active_.load(std::memory_order_relaxed) != 0 || moments_.awaited_devices() != 0;
  return awaits ? 20'000 : UINT64_MAX;
}

void CopyQueue::run(bool more_to_come) noexcept {
  // While streams are awaited and nothing else: it is asked for all the time.
  const bool idle = active_.load(std::memory_order_acquire) == 0;
  if (idle && now_ns() - checked_ns_.load(std::memory_order_relaxed) <= kCheckNs) return;
  const bool alone = gates_.enter_driver();
  if (!alone && leave_to_thread()) return;
  run_here(more_to_come, alone);
  if (alone) gates_.leave_driver();
}

// False: there is no thread.
bool CopyQueue::leave_to_thread() noexcept {
  if (asked_.exchange(1, std::memory_order_seq_cst) != 0) return true;
  linux_driver::futex_wake_all(asked_);
  const std::unique_lock lock(thread_mutex_, std::try_to_lock);
  if (!lock || has_thread_) return true;
  std::thread thread;
  has_thread_ = start_thread(thread, [this] { run_thread(); });
  if (has_thread_) {
    thread.detach();  // for the life of the process, as the queue is
  } else {
    asked_.store(0, std::memory_order_seq_cst);
  }
  return has_thread_;
}

void CopyQueue::run_thread() noexcept {
  for (;;) {
    while (asked_.exchange(0, std::memory_order_seq_cst) == 0)
      linux_driver::futex_wait(asked_, 0, 1'000'000'000u);
    run_here(false, false);
  }
}

// `alone`: no stream comes to wait meanwhile.
void CopyQueue::run_here(bool more_to_come, bool alone) noexcept {
  // What is submitted while another thread is at it, and too late for that one, waits() still.
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return;
  std::unique_lock<std::mutex> nobody_places;
  try {
    take_inbox();
    make_calls();
    make_room();
    look_for_room(more_to_come);
    // Who places a wait may be held up in the driver until another one ends.
    if (!alone) nobody_places = std::unique_lock(gates_.placing(), std::try_to_lock);
    if (!alone) look_for_streams(nobody_places.owns_lock());
    std::erase_if(waiting_, [this](const std::shared_ptr<Copy>& copy) {
      if (!may_begin(*copy)) return false;
      begin(copy);
      return true;
    });
  } catch (const std::bad_alloc&) {  // nothing is lost
  }
  issue_all();
  close_batches();
  if (nobody_places) nobody_places.unlock();
  retire();
  const std::uint64_t now = now_ns();
  if (now - checked_ns_.load(std::memory_order_relaxed) <= kCheckNs) return;
  checked_ns_.store(now, std::memory_order_relaxed);
  try {
    check_health();
  } catch (const std::bad_alloc&) {
  }
}

void CopyQueue::take_inbox() {
  std::scoped_lock lock(inbox_mutex_);
  waiting_.insert(waiting_.end(), std::make_move_iterator(inbox_.begin()),
                  std::make_move_iterator(inbox_.end()));
  inbox_.clear();
  calls_.insert(calls_.end(), std::make_move_iterator(new_calls_.begin()),
                std::make_move_iterator(new_calls_.end()));
  new_calls_.clear();
}

void CopyQueue::make_calls() {
  while (!calls_.empty()) {
    calls_.front()();
    calls_.erase(calls_.begin());
    active_.fetch_sub(1, std::memory_order_relaxed);
  }
}

// A copy that has begun is never lost: for what waits there is room where it goes.
void CopyQueue::make_room() {
  if (engines_.empty()) engines_.resize(static_cast<std::size_t>(driver_.devices()));
  for (const auto& copy : waiting_) {
    Engine& engine = engine_of(copy->device_, copy->kind_);
    engine.next.reserve(std::bit_ceil(waiting_.size()));
    engine.batch.reserve(std::bit_ceil(waiting_.size()));
    engine.issued.reserve(std::bit_ceil(engine.issued.size() + waiting_.size()));
  }
}

bool CopyQueue::may_begin(const Copy& copy) const noexcept {
  if (copy.state_.load(std::memory_order_relaxed) == Copy::State::kDropped) return true;
  if (has_failed(copy.device_)) return true;
  const auto& kinds = engines_[static_cast<std::size_t>(copy.device_)];
  return kinds[static_cast<std::size_t>(copy.kind_)].has_room &&
         (copy.after_ == nullptr || copy.after_->reached());
}

// Each batch costs the engine the time of a small copy, and copies of one batch overlap.
bool CopyQueue::has_room(const Engine& engine, bool more_to_come) const noexcept {
  const cuda_driver::Stream* stream = engine.stream.made();
  if (stream == nullptr || !driver_.copies_batches()) return true;
  const std::uint32_t done = stream->word->load(std::memory_order_acquire);
  const std::uint32_t under_way = stream->submitted - done;
  if (under_way == 0) return true;
  if (under_way >= kBatchesUnderWay) return false;
  return !more_to_come || engine.waiting >= kBatch || engine.waiting_bytes >= kBatchBytes;
}

void CopyQueue::look_for_room(bool more_to_come) noexcept {
  if (waiting_.empty()) return;
  for (auto& kinds : engines_) {
    for (Engine& engine : kinds)
      engine.waiting = engine.waiting_bytes = 0;
  }
  for (const auto& copy : waiting_) {
    Engine& engine = engine_of(copy->device_, copy->kind_);
    ++engine.waiting;
    engine.waiting_bytes += copy->bytes_ * copy->rows_;
  }
  for (auto& kinds : engines_) {
    for (Engine& engine : kinds)
      engine.has_room = has_room(engine, more_to_come);
  }
}

void CopyQueue::begin(const std::shared_ptr<Copy>& copy) noexcept {
  auto queued = Copy::State::kQueued;
  if (!copy->state_.compare_exchange_strong(queued, Copy::State::kIssuing)) {  // dropped
    active_.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  copy->after_.reset();
  if (Resident::allowed() && give_to_resident(copy)) return;
  engine_of(copy->device_, copy->kind_).next.push_back(copy);
}

// Small ones for other GPUs, of which the host is waited for.
bool CopyQueue::give_to_resident(const std::shared_ptr<Copy>& copy) noexcept {
  const bool small = copy->rows_ == 1 && copy->bytes_ != 0 && copy->bytes_ <= Resident::kMostBytes;
  if (copy->kind_ != Copy::Kind::kPush || !small || !copy->reachable_ || gates_.some_closed() ||
      has_failed(copy->device_))
    return false;
  try {
    if (stayers_.empty()) stayers_.resize(engines_.size());
    auto& stayer = stayers_[static_cast<std::size_t>(copy->device_)];
    if (stayer == nullptr) stayer = std::make_unique<Stayer>(driver_, kernels_, copy->device_);
    stayer->issued.reserve(stayer->issued.size() + 1);
    const Order order{.to = copy->to_, .from = copy->from_, .bytes = copy->bytes_};
    if (!stayer->resident.push(order, copy->ticket_)) return false;
    copy->stream_ = &stayer->resident.stream();
    copy->state_.store(Copy::State::kUnderWay, std::memory_order_release);
    stayer->issued.push_back(copy);
    under_way_.fetch_add(1, std::memory_order_relaxed);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void CopyQueue::retire() noexcept {
  std::uint32_t retired = 0;
  const auto retire_of = [&retired](std::vector<std::shared_ptr<Copy>>& issued) {
    const auto left = std::ranges::find_if(issued, [](const auto& copy) { return !copy->over(); });
    retired += static_cast<std::uint32_t>(left - issued.begin());
    issued.erase(issued.begin(), left);
  };
  for (auto& kinds : engines_) {
    for (Engine& engine : kinds)
      retire_of(engine.issued);
  }
  for (auto& stayer : stayers_) {
    if (stayer == nullptr || stayer->issued.empty()) continue;
    retire_of(stayer->issued);
    if (stayer->issued.empty() || stayer->resident.look(!gates_.some_closed())) continue;
    for (const auto& copy : stayer->issued)  // it has left, and touches nothing of theirs
      copy->state_.store(Copy::State::kFailed, std::memory_order_release);
    stayer->resident.forget();
    retire_of(stayer->issued);
  }
  under_way_.fetch_sub(retired, std::memory_order_relaxed);
  active_.fetch_sub(retired, std::memory_order_relaxed);
}

// A word says nothing of errors, which are for good: those of a context stay with it, and any of
// its streams tells of them.
void CopyQueue::check_health() {
  const std::uint64_t awaited = moments_.awaited_devices();
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    const auto device = static_cast<int>(i);
    if (has_failed(device)) continue;
    auto used = std::ranges::find_if(
        engines_[i], [](const Engine& engine) { return engine.stream.made() != nullptr; });
    const bool is_used = used != engines_[i].end();
    if (!is_used && (awaited >> (i % 64) & 1) == 0) continue;
    auto stream = stream_of(is_used ? *used : engines_[i].front(), device);
    if (!stream) {
      if (stream.failure().error != Error::kNoMemory) fail(device);
      continue;
    }
    auto checked = driver_.check(*stream.value());
    if (checked) continue;
    note_trouble(checked.failure().message);
    fail(device);
  }
}

void CopyQueue::note_trouble(const std::string& reason) {
  std::scoped_lock lock(inbox_mutex_);
  if (trouble_.empty()) trouble_ = reason;
}

void CopyQueue::fail(int device) noexcept {
  if (device < kMaxDevices) {
    failed_[static_cast<std::size_t>(device)].store(true, std::memory_order_release);
  }
  moments_.forget(device);
  const auto fail_all = [](const std::vector<std::shared_ptr<Copy>>& issued) {
    for (const auto& copy : issued) {
      if (!copy->over()) copy->state_.store(Copy::State::kFailed, std::memory_order_release);
    }
  };
  const auto number = static_cast<std::size_t>(device);
  for (const Engine& engine : engines_[number])
    fail_all(engine.issued);
  if (number < stayers_.size() && stayers_[number] != nullptr) fail_all(stayers_[number]->issued);
}

}  // namespace mooncake_mpi::cuda
