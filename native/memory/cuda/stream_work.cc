#include "memory/cuda/stream_work.h"

#include <new>

namespace mooncake_mpi::cuda {

StreamWork::~StreamWork() {
  order({});  // no stream waits for ever
  // Of a claim that was refused half-way the stream may read the line at any time.
  if (!tried_ || claimed()) works_.give_back(device_, {&line_, turn_}, claimed());
}

void StreamWork::refuse() noexcept {
  if (claimed()) return;
  order({});
  refused_.store(true, std::memory_order_release);
}

Result<bool> StreamWork::claim(cuda_driver::StreamHandle stream) {
  tried_ = true;
  const std::scoped_lock lock(works_.gates_.placing());
  // Before the stream waits: who copies from now on minds it.
  number_ = works_.gates_.count_closed();
  if ((state_.fetch_or(kWaits, std::memory_order_seq_cst) & kOrdered) != 0) {
    works_.gates_.count_opened(number_);
  }
  const Command& command = line_.command;
  Result<bool> given = true;
  if (wait_ == Wait::kByKernel) {
    given = works_.kernels_.take(device_, stream, command, turn_, line_.done, most_bytes_);
  } else {
    given = works_.driver_.wait_in(device_, stream, command.vectors.back().turn, turn_);
    if (given) {
      given = works_.kernels_.copy(device_, stream, command, line_.published, turn_, line_.done,
                                   most_bytes_);
    }
  }
  if (!given) {
    refuse();  // what the stream was given of it before goes on
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
  if ((before & kWaits) != 0) works_.gates_.count_opened(number_);
  return true;
}

bool StreamWork::is_next() const noexcept {
  return claimed() && works_.gates_.is_oldest(number_);
}

std::shared_ptr<const Moment> StreamWork::end() const {
  return std::make_shared<const Moment>(Moment::of_word(line_.done, turn_));
}

Result<std::shared_ptr<StreamWork>> StreamWorks::take(int device, std::uint64_t most_bytes,
                                                      StreamWork::Wait wait) {
  if (!kernels_.are_on(device)) return std::shared_ptr<StreamWork>();
  std::unique_lock lock(mutex_);
  auto found = lines_.find(device);
  if (found == lines_.end()) {
    // Those who end waits give lines back, with the engine's lock: the driver is called without
    // ours.
    lock.unlock();
    if (!gates_.enter_driver()) return std::shared_ptr<StreamWork>();  // the next time
    auto made = make_lines(device);
    gates_.leave_driver();
    lock.lock();
    found = lines_.try_emplace(device, made ? std::move(made).value() : Lines()).first;
  }
  Lines& lines = found->second;
  std::erase_if(lines.late, [&lines](const Used& used) {
    const std::uint32_t done = used.line->done.load(std::memory_order_acquire);
    if (static_cast<std::int32_t>(done - used.turn) < 0) return false;
    lines.free.push_back(used);
    return true;
  });
  if (lines.free.empty()) return std::shared_ptr<StreamWork>();
  const Used used = lines.free.back();
  lines.free.pop_back();
  lock.unlock();
  return std::make_shared<StreamWork>(*this, device, *used.line, used.turn + 1, most_bytes, wait);
}

// At the first use of a device; what is refused then stays refused.
Result<StreamWorks::Lines> StreamWorks::make_lines(int device) {
  constexpr std::size_t kPublished = Kernels::kPublishedBytes;
  static_assert(sizeof(StreamWork::Line) >= kPublished);
  auto memory = driver_.allocate_pinned(device, kLines * sizeof(StreamWork::Line));
  if (!memory) return memory.failure();
  auto own = driver_.allocate_device(device, kLines * kPublished);
  if (!own) return own.failure();
  const auto published = reinterpret_cast<cuda_driver::DeviceAddress>(own.value());
  auto cleared = kernels_.clear(device, published, memory.value(), kLines * kPublished);
  if (!cleared) return cleared.failure();
  moments_.make_room(kLines);
  Lines lines;
  lines.free.reserve(kLines);  // give_back() does not allocate
  lines.late.reserve(kLines);
  for (std::size_t i = kLines; i-- != 0;) {
    auto* line = new (memory.value() + i * sizeof(StreamWork::Line)) StreamWork::Line;
    line->published = published + i * kPublished;
    lines.free.push_back({line, 0});
  }
  return lines;
}

void StreamWorks::give_back(int device, Used used, bool claimed) noexcept {
  const std::scoped_lock lock(mutex_);
  Lines& lines = lines_.find(device)->second;
  (claimed ? lines.late : lines.free).push_back(used);
}

}  // namespace mooncake_mpi::cuda
