// A wait in a stream of the program, which a store of the host ends. Nothing that is submitted
// later may be what ends it: a stream that waits may hold up any other stream of the process, and a
// thread that launches a kernel for the first time holds the driver until no stream waits. Any
// thread.
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
    return *this;
  }
  ~Gate() { open(); }
  void open() noexcept;

 private:
  friend class Gates;
  Gates* gates_ = nullptr;
  std::atomic<std::uint32_t>* word_ = nullptr;
  std::uint32_t value_ = 0;
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
  void count_closed(int change) noexcept { closed_.fetch_add(change, std::memory_order_acq_rel); }

 private:
  friend class Gate;
  void give_back(std::atomic<std::uint32_t>& word) noexcept;

  cuda_driver::Driver& driver_;
  std::atomic<int> closed_{0};
  std::mutex mutex_;
  std::vector<std::atomic<std::uint32_t>*> free_;
  std::size_t words_ = 0;  // all; there is room for so many
};

}  // namespace mooncake_mpi::cuda
