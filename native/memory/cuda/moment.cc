#include "memory/cuda/moment.h"

#include <new>

namespace mooncake_mpi::cuda {
namespace {

constexpr std::size_t kWordBytes = 64;  // a line each: streams write them from everywhere
constexpr std::size_t kWords = 256;     // in one piece of pinned memory

}  // namespace

Moment::~Moment() {
  if (word_ != nullptr) moments_->give_back({word_, value_});
}

Result<Moment> Moments::take(int device, cuda_driver::StreamHandle stream) {
  auto taken = take_word(device);
  if (!taken) return taken.failure();
  Word word = taken.value();
  auto marked = driver_.mark(device, stream, *word.word, word.value + 1);
  if (!marked || !marked.value()) {  // nothing will be written
    give_back(word);
    if (!marked) return marked.failure();
    return Moment();
  }
  Moment moment;
  moment.moments_ = this;
  moment.word_ = word.word;
  moment.value_ = word.value + 1;
  return moment;
}

Result<Moments::Word> Moments::take_word(int device) {
  std::scoped_lock lock(mutex_);
  std::erase_if(late_, [this](const Word& word) {
    if (word.word->load(std::memory_order_acquire) != word.value) return false;
    free_.push_back(word);
    return true;
  });
  if (free_.empty()) {
    auto memory = driver_.allocate_pinned(device, kWords * kWordBytes);
    if (!memory) return memory.failure();
    free_.reserve(free_.size() + late_.size() + kWords);
    for (std::size_t i = 0; i < kWords; ++i) {
      auto* word = new (memory.value() + i * kWordBytes) std::atomic<std::uint32_t>(0);
      free_.push_back({word, 0});
    }
    late_.reserve(free_.capacity());
  }
  const Word word = free_.back();
  free_.pop_back();
  return word;
}

void Moments::give_back(Word word) noexcept {
  std::scoped_lock lock(mutex_);
  const bool written = word.word->load(std::memory_order_acquire) == word.value;
  (written ? free_ : late_).push_back(word);
}

}  // namespace mooncake_mpi::cuda
