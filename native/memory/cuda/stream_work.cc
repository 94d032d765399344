#include "memory/cuda/stream_work.h"

#include <new>

namespace mooncake_mpi::cuda {

StreamWork::~StreamWork() {
  order({});  // no stream waits for ever
  if (!lost_) works_.give_back(device_, {&line_, turn_}, claimed());
}

Result<bool> StreamWork::claim(cuda_driver::StreamHandle stream) {
  // Before the stream waits: who copies from now on minds it.
  works_.gates_.count_closed();
  if ((state_.fetch_or(kWaits, std::memory_order_seq_cst) & kOrdered) != 0) {
    works_.gates_.count_opened();
  }
  const Command& command = line_.command;
  Result<bool> given = true;
  if (wait_ == Wait::kByKernel) {
    given = works_.kernels_.take(device_, stream, command, turn_, line_.done, most_bytes_);
  } else {
    given = works_.driver_.wait_in(device_, stream, command.vectors.back().turn, turn_);
    if (given)
      given = works_.kernels_.copy(device_, stream, command, line_.published, turn_, most_bytes_);
    if (given) given = works_.driver_.write_in(device_, stream, line_.done, turn_);
  }
  if (!given) {
    // What the stream was given of it before goes on, and may read the line at any time.
    lost_ = true;
    order({});
    return given;
  }
  claimed_.store(true, std::memory_order_release);
  return true;
}

bool StreamWork::order(const Order& order, bool heard) noexcept {
  if ((state_.fetch_or(kTaken, std::memory_order_acquire) & kTaken) != 0) return false;
  if (heard) works_.moments_.watch(line_.done, turn_, device_);
  write(line_.command, order, turn_);
  const std::uint8_t before = state_.fetch_or(kOrdered, std::memory_order_seq_cst);
  if ((before & kWaits) != 0) works_.gates_.count_opened();
  return true;
}

std::shared_ptr<const Moment> StreamWork::end() const {
  return std::make_shared<const Moment>(Moment::of_word(line_.done, turn_));
}

Result<std::shared_ptr<StreamWork>> StreamWorks::take(int device, std::uint64_t most_bytes,
                                                      StreamWork::Wait wait) {
  if (!kernels_.are_on(device)) return std::shared_ptr<StreamWork>();
  std::unique_lock lock(mutex_);
  Lines& lines = lines_[device];
  std::erase_if(lines.late, [&lines](const Used& used) {
    const std::uint32_t done = used.line->done.load(std::memory_order_acquire);
    if (static_cast<std::int32_t>(done - used.turn) < 0) return false;
    lines.free.push_back(used);
    return true;
  });
  while (lines.free.empty()) {
    auto added = add_lines(device, lines, lock);
    if (!added) return added.failure();
  }
  const Used used = lines.free.back();
  lines.free.pop_back();
  lock.unlock();
  return std::make_shared<StreamWork>(*this, device, *used.line, used.turn + 1, most_bytes, wait);
}

// The driver may take its time, and those who give lines back hold the engine's lock.
Result<bool> StreamWorks::add_lines(int device, Lines& lines, std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  auto memory = driver_.allocate_pinned(device, kLines * sizeof(StreamWork::Line));
  auto own = driver_.allocate_device(device, kLines * sizeof(Command));
  lock.lock();
  if (!memory) return memory.failure();
  if (!own) return own.failure();
  moments_.make_room(kLines);
  lines.free.reserve(lines.count + kLines);  // give_back() does not allocate
  lines.late.reserve(lines.count + kLines);
  lines.count += kLines;
  for (std::size_t i = 0; i < kLines; ++i) {
    auto* line = new (memory.value() + i * sizeof(StreamWork::Line)) StreamWork::Line;
    line->published =
        reinterpret_cast<cuda_driver::DeviceAddress>(own.value() + i * sizeof(Command));
    lines.free.push_back({line, 0});
  }
  return true;
}

void StreamWorks::give_back(int device, Used used, bool claimed) noexcept {
  const std::scoped_lock lock(mutex_);
  Lines& lines = lines_.find(device)->second;
  (claimed ? lines.late : lines.free).push_back(used);
}

}  // namespace mooncake_mpi::cuda
