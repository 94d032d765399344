// Peers' GPU memory in this process's address space. Opening it for the first time takes tens of
// milliseconds, which is why a thread of its own does that.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "drivers/cuda/driver.h"
#include "memory/cuda/gpu_memory.h"
#include "transport/packet_sink.h"
#include "wire/cuda_ipc.h"

namespace mooncake_mpi::cuda_ipc {

class Opener;

// Memory that lay at the same addresses of the peer, and was freed: open for as long as a copy
// needs it. The driver has one mapping of a peer's address at a time.
struct Stale {
  std::atomic<bool> closed{false};
};
using Predecessors = std::vector<std::shared_ptr<Stale>>;

// One allocation of a peer, for the GPU that copies into it.
class Mapping {
 public:
  // `bytes` long, as the peer says.
  Mapping(cuda::GpuMemory& memory, Opener& opener, int device, std::uint64_t bytes)
      : memory_(memory),
        opener_(opener),
        device_(device),
        bytes_(bytes),
        end_(std::make_shared<Stale>()) {}
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  enum class State : std::uint8_t { kOpening, kOpen, kRefused };
  State state() const noexcept { return state_.load(std::memory_order_acquire); }
  // Of an open one.
  cuda_driver::DeviceAddress base() const noexcept { return base_; }
  // Of a refused one: the driver's words.
  const std::string& refusal() const noexcept { return refusal_; }
  // Tells when it is closed.
  const std::shared_ptr<Stale>& end() const noexcept { return end_; }

 private:
  friend class Opener;
  cuda::GpuMemory& memory_;
  Opener& opener_;
  int device_;
  std::uint64_t bytes_;
  std::shared_ptr<Stale> end_;
  cuda_driver::DeviceAddress base_ = 0;
  std::string refusal_ = "no thread opens the peer's memory (any more)";
  std::atomic<State> state_{State::kOpening};
};

// The thread that opens and closes. It outlives the mappings. To close may wait for all streams,
// and keep the driver from those who are to end the wait of one: so while one waits nothing is
// closed but what has to be before something else can be opened.
class Opener {
 public:
  ~Opener() { stop(); }
  void set_waker(Waker* waker) noexcept { waker_ = waker; }
  // Once all of `after` are closed.
  void open(std::shared_ptr<Mapping> mapping, const cuda_driver::IpcHandle& handle,
            Predecessors after);
  // What is not open by then never will be.
  void stop() noexcept;

 private:
  friend class Mapping;
  struct Order {
    std::shared_ptr<Mapping> mapping;  // to be opened
    cuda_driver::IpcHandle handle{};
    Predecessors after;
    std::function<void()> close;   // or what closes another
    std::shared_ptr<Stale> end;    // that one's
    cuda::Gates* gates = nullptr;  // of the streams that may wait
  };
  void close(Mapping& mapping);
  void run();
  std::deque<Order>::iterator next_order() noexcept;
  bool is_in_the_way(const Order& order) const noexcept;
  void put_off(Order order, std::unique_lock<std::mutex>& lock) noexcept;
  void open(Mapping& mapping, const cuda_driver::IpcHandle& handle);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Order> orders_;
  bool stopping_ = false;
  std::thread thread_;
  Waker* waker_ = nullptr;
};

// The allocations that one peer has told of. Engine lock held for every call.
class PeerMemory {
 public:
  // What lay there before has been freed.
  void learn(const wire::DeviceMemory& memory);
  // Whether it knows of those bytes.
  bool has(std::uint64_t allocation, std::uint64_t offset, std::uint64_t length) const noexcept;
  // For copies by `device`; being opened, when it was not asked for before.
  std::shared_ptr<Mapping> map(std::uint64_t allocation, int device, cuda::GpuMemory& memory,
                               Opener& opener);
  // Where the allocation begins in the peer's own address space.
  cuda_driver::DeviceAddress base_of(std::uint64_t allocation) const noexcept;

 private:
  struct Entry {
    wire::DeviceMemory memory;
    std::map<int, std::shared_ptr<Mapping>> mappings;  // by the device that copies
    Predecessors after;
  };
  std::map<std::uint64_t, Entry> entries_;  // by allocation
};

}  // namespace mooncake_mpi::cuda_ipc
