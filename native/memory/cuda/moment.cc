#include "memory/cuda/moment.h"

#include <algorithm>
#include <new>

namespace mooncake_mpi::cuda {
namespace {

constexpr std::size_t kWordBytes = 64;  // a line each: streams write them from everywhere
constexpr std::size_t kWords = 256;     // in one piece of pinned memory

}  // namespace

Moment::~Moment() {
  if (moments_ != nullptr) moments_->give_back({word_, value_});
}

Result<Moment> Moments::take(int device, cuda_driver::StreamHandle stream, Heard heard, bool busy) {
  auto taken = take_word(device);
  if (!taken) return taken.failure();
  Word word = taken.value();
  auto marked = busy ? driver_.write_in(device, stream, *word.word, word.value + 1)
                     : driver_.mark(device, stream, *word.word, word.value + 1);
  if (!marked || !marked.value()) {  // nothing will be written
    give_back(word);
    if (!marked) return marked.failure();
    return Moment();
  }
  if (heard == Heard::kByMessages) await({word.word, word.value + 1}, device);
  Moment moment;
  moment.moments_ = this;
  moment.word_ = word.word;
  moment.value_ = word.value + 1;
  return moment;
}

Result<Moments::Word> Moments::take_word(int device) {
  std::unique_lock lock(mutex_);
  std::erase_if(late_, [this](const Word& word) {
    if (word.word->load(std::memory_order_acquire) != word.value) return false;
    free_.push_back(word);
    return true;
  });
  while (free_.empty()) {
    // The driver may take its time, and those who give words back hold the engine's lock.
    lock.unlock();
    auto memory = driver_.allocate_pinned(device, kWords * kWordBytes);
    if (!memory) return memory.failure();
    lock.lock();
    add_words(memory.value());
  }
  const Word word = free_.back();
  free_.pop_back();
  return word;
}

// give_back() and await() do not allocate.
void Moments::add_words(std::byte* memory) {
  free_.reserve(words_ + kWords);
  late_.reserve(words_ + kWords);
  awaited_.reserve(words_ + kWords);
  words_ += kWords;
  for (std::size_t i = 0; i < kWords; ++i)
    free_.push_back({new (memory + i * kWordBytes) std::atomic<std::uint32_t>(0), 0});
}

void Moments::give_back(Word word) noexcept {
  std::scoped_lock lock(mutex_);
  const bool written = word.word->load(std::memory_order_acquire) == word.value;
  (written ? free_ : late_).push_back(word);
}

void Moments::await(Word word, int device, bool soon) noexcept {
  std::scoped_lock lock(mutex_);
  if (awaited_.size() == words_) look();
  awaited_.push_back({word, device, soon});
  count();
}

void Moments::watch(std::atomic<std::uint32_t>& word, std::uint32_t value, int device) noexcept {
  await({&word, value}, device, true);
}

void Moments::make_room(std::size_t words) {
  std::scoped_lock lock(mutex_);
  awaited_.reserve(words_ + words);
  free_.reserve(words_ + words);
  late_.reserve(words_ + words);
  words_ += words;
}

void Moments::count() noexcept {
  count_.store(awaited_.size(), std::memory_order_relaxed);
  soon_.store(static_cast<std::size_t>(std::ranges::count_if(awaited_, &Awaited::soon)),
              std::memory_order_relaxed);
}

// A word is used again when it has been written: of those that were not there is one at most.
void Moments::look() noexcept {
  std::erase_if(awaited_, [](const Awaited& awaited) {
    const std::uint32_t written = awaited.word.word->load(std::memory_order_acquire);
    return static_cast<std::int32_t>(written - awaited.word.value) >= 0;
  });
  count();
}

std::uint64_t Moments::awaited_devices() noexcept {
  if (!some_awaited()) return 0;
  std::scoped_lock lock(mutex_);
  look();
  std::uint64_t devices = 0;
  for (const Awaited& awaited : awaited_)
    devices |= std::uint64_t{1} << (awaited.device % 64);
  return devices;
}

void Moments::forget(int device) noexcept {
  std::scoped_lock lock(mutex_);
  std::erase_if(awaited_, [device](const Awaited& awaited) { return awaited.device == device; });
  count();
}

}  // namespace mooncake_mpi::cuda
