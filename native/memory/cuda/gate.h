// A wait in a stream of the program, which a store of the host ends. Nothing that is submitted
// later may be what ends it: a stream that waits may hold up any other stream of the process, and a
// thread that launches a kernel for the first time holds the driver until no stream waits. So who
// opens gates calls the driver only while none is closed, and none is closed meanwhile. Who has to
// copy beside streams that wait looks for a stream of its own that none of them holds up, and keeps
// others from waiting while it gives that one its work. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "base/result.h"
#include "drivers/cuda/driver.h"

namespace mooncake_mpi::cuda {

class Gates;

// Closed from the start; opened by open(), or at its end.
class Gate {
 public:
  Gate() noexcept = default;
  Gate(Gate&& other) noexcept { *this = std::move(other); }
  Gate& operator=(Gate&& other) noexcept {
    std::swap(gates_, other.gates_);
    std::swap(word_, other.word_);
    std::swap(value_, other.value_);
    std::swap(number_, other.number_);
    return *this;
  }
  ~Gate() { open(); }
  void open() noexcept;

 private:
  friend class Gates;
  Gates* gates_ = nullptr;
  std::atomic<std::uint32_t>* word_ = nullptr;
  std::uint32_t value_ = 0;
  std::uint64_t number_ = 0;
};

// The words. Their values only grow, so one is used again as soon as it was opened: what waited for
// a smaller value goes on all the same.
class Gates {
 public:
  explicit Gates(cuda_driver::Driver& driver) noexcept : driver_(driver) {}
  Gates(const Gates&) = delete;
  Gates& operator=(const Gates&) = delete;

  // What `stream` is given from now on waits for the gate. Calls the driver.
  Result<Gate> close(int device, cuda_driver::StreamHandle stream);

  bool some_closed() const noexcept { return closed_.load(std::memory_order_acquire) != 0; }
  // A word for a wait that is a part of a graph, whose value begins anew each time; for good.
  Result<std::atomic<std::uint32_t>*> take_word(int device);
  // Before a stream waits: returns when nobody is at the driver any more who may have to open the
  // gate, or else after `limit_ns`. The wait's number, which only grows.
  std::uint64_t count_closed(std::uint64_t limit_ns = UINT64_MAX) noexcept;
  void count_opened(std::uint64_t number) noexcept;
  // Whether all waits with smaller numbers are over.
  bool is_oldest(std::uint64_t number) const noexcept;

  // Held from count_closed() until the stream has its wait: what a stream is given by another
  // holder of it, who sees that stream run since the latest() wait, comes before every wait.
  std::mutex& placing() noexcept { return placing_; }
  std::uint64_t latest() const noexcept { return latest_.load(std::memory_order_acquire); }

  // Of who opens gates, around calls of the driver. False: it may be kept there until one opens.
  bool enter_driver() noexcept;
  void leave_driver() noexcept { in_driver_.fetch_sub(1, std::memory_order_release); }

 private:
  friend class Gate;
  void give_back(std::atomic<std::uint32_t>& word) noexcept;

  cuda_driver::Driver& driver_;
  std::atomic<int> closed_{0};
  std::atomic<int> in_driver_{0};
  std::atomic<std::uint64_t> latest_{0};
  std::mutex placing_;
  mutable std::mutex mutex_;             // guards the rest
  std::vector<std::uint64_t> standing_;  // numbers of waits that are not over
  std::vector<std::atomic<std::uint32_t>*> free_;
  std::size_t words_ = 0;  // all; there is room for so many
};

}  // namespace mooncake_mpi::cuda
