// A point in the work of a stream of the program: what was queued before it is done when it is
// reached. The stream itself says so, by a word in pinned memory, so that looking takes no call of
// the driver. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "base/result.h"
#include "drivers/cuda/driver.h"

namespace mooncake_mpi::cuda {

class Moments;

// Empty: reached from the start, for the stream was idle.
class Moment {
 public:
  Moment() noexcept = default;
  Moment(Moment&& other) noexcept { *this = std::move(other); }
  Moment& operator=(Moment&& other) noexcept {
    std::swap(moments_, other.moments_);
    std::swap(word_, other.word_);
    std::swap(value_, other.value_);
    return *this;
  }
  ~Moment();
  // A word that somebody else looks after, and whose values only grow.
  static Moment of_word(std::atomic<std::uint32_t>& word, std::uint32_t value) noexcept {
    Moment moment;
    moment.word_ = &word;
    moment.value_ = value;
    return moment;
  }
  bool reached() const noexcept {
    return word_ == nullptr ||
           static_cast<std::int32_t>(word_->load(std::memory_order_acquire) - value_) >= 0;
  }
  // What another stream may wait for; nullptr where there is nothing to wait for.
  const std::atomic<std::uint32_t>* word() const noexcept { return word_; }
  std::uint32_t value() const noexcept { return value_; }

 private:
  friend class Moments;
  Moments* moments_ = nullptr;  // whose the word is, if theirs
  std::atomic<std::uint32_t>* word_ = nullptr;
  std::uint32_t value_ = 0;
};

// The words. One is used again when its stream has written it, whether or not anybody still waits:
// a late write may not undo that of another stream.
class Moments {
 public:
  explicit Moments(cuda_driver::Driver& driver) noexcept : driver_(driver) {}
  Moments(const Moments&) = delete;
  Moments& operator=(const Moments&) = delete;

  // Whether somebody has to hear of it, who does not look by himself.
  enum class Heard : std::uint8_t { kByMessages, kByNobody };
  // Of what `stream` has been given so far, which may be nothing that is not done; `busy`: it has
  // just been given something. Calls the driver.
  Result<Moment> take(int device, cuda_driver::StreamHandle stream,
                      Heard heard = Heard::kByMessages, bool busy = false);

  // Somebody has to hear when a stream has written that, soon: it is at it. There was to be room.
  void watch(std::atomic<std::uint32_t>& word, std::uint32_t value, int device) noexcept;
  void make_room(std::size_t words);
  // Whether there is one of those; a load.
  bool some_are_soon() const noexcept { return soon_.load(std::memory_order_relaxed) != 0; }

  // Whether a stream may have yet to come to one that was taken; a load.
  bool some_awaited() const noexcept { return count_.load(std::memory_order_relaxed) != 0; }
  // Whose streams have yet to come to one, a bit for each device.
  std::uint64_t awaited_devices() noexcept;
  // Its streams go on no more.
  void forget(int device) noexcept;

 private:
  friend class Moment;
  struct Word {
    std::atomic<std::uint32_t>* word;
    std::uint32_t value;  // the last that a stream was to write
  };
  struct Awaited {
    Word word;
    int device;
    bool soon;
  };
  Result<Word> take_word(int device);
  void give_back(Word word) noexcept;
  void await(Word word, int device, bool soon = false) noexcept;
  void count() noexcept;
  void add_words(std::byte* memory);
  void look() noexcept;

  cuda_driver::Driver& driver_;
  std::mutex mutex_;
  std::vector<Word> free_;
  std::vector<Word> late_;  // nobody waits, and the stream has not come there yet
  // What streams had yet to write when this was looked at last, whether or not anybody waits.
  std::vector<Awaited> awaited_;
  std::atomic<std::size_t> count_{0};  // of these
  std::atomic<std::size_t> soon_{0};
  std::size_t words_ = 0;  // all; there is room for so many everywhere
};

}  // namespace mooncake_mpi::cuda
