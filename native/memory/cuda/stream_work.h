// What a stream of the program does for a message when the host says so: it waits, and then copies
// what it is told to, or nothing. All that is given to the stream before it waits, so that nothing
// which the wait may hold up is needed to end it. Either one block of a kernel waits and copies,
// which begins at once and is enough for little; or the stream itself waits, which takes some
// microseconds more and keeps no part of the device busy, and a kernel of many blocks copies then.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "drivers/cuda/driver.h"
#include "memory/cuda/gate.h"
#include "memory/cuda/kernels/kernels.h"
#include "memory/cuda/moment.h"

namespace mooncake_mpi::cuda {

class StreamWorks;

class StreamWork {
 public:
  // A line of pinned memory for each work that there is; its turns only grow.
  struct alignas(128) Line {
    Command command;
    std::atomic<std::uint32_t> done;
    cuda_driver::DeviceAddress published;  // for the kernel, on the device
  };

  enum class Wait : std::uint8_t { kByKernel, kByStream };

  StreamWork(StreamWorks& works, int device, Line& line, std::uint32_t turn,
             std::uint64_t most_bytes, Wait wait) noexcept
      : works_(works),
        line_(line),
        turn_(turn),
        most_bytes_(most_bytes),
        wait_(wait),
        device_(device) {}
  ~StreamWork();
  StreamWork(const StreamWork&) = delete;
  StreamWork& operator=(const StreamWork&) = delete;

  // `stream`, of the device, waits from now on. Calls the driver; once, by the program's thread.
  Result<bool> claim(cuda_driver::StreamHandle stream);
  // Whether a stream stands ready.
  bool claimed() const noexcept { return claimed_.load(std::memory_order_acquire); }
  // No stream will ever stand ready: the driver has refused it, or its call has failed before.
  void refuse() noexcept;
  bool refused() const noexcept { return refused_.load(std::memory_order_acquire); }

  // What the stream is to do, now or when it is claimed. The first order counts; false: there was
  // one before. `heard`, of one that is claimed: somebody is told when it is done.
  bool order(const Order& order, bool heard = false) noexcept;
  // Whether none of the process's streams waits any more for what was waited for before it: the
  // hardware's channel may be the same.
  bool is_next() const noexcept;
  // Whether what was ordered is done; never so before the stream is claimed.
  bool done() const noexcept {
    return static_cast<std::int32_t>(line_.done.load(std::memory_order_acquire) - turn_) >= 0;
  }
  // The same, for those who keep memory until then.
  std::shared_ptr<const Moment> end() const;

 private:
  static constexpr std::uint8_t kWaits = 1;
  static constexpr std::uint8_t kTaken = 2;  // somebody orders, or has
  static constexpr std::uint8_t kOrdered = 4;

  StreamWorks& works_;
  Line& line_;
  const std::uint32_t turn_;
  const std::uint64_t most_bytes_;
  const Wait wait_;
  const int device_;
  bool tried_ = false;        // to claim a stream
  std::uint64_t number_ = 0;  // of its wait, since claim()
  std::atomic<bool> refused_{false};
  std::atomic<std::uint8_t> state_{0};
  std::atomic<bool> claimed_{false};
};

class StreamWorks {
 public:
  StreamWorks(cuda_driver::Driver& driver, Gates& gates, Moments& moments,
              Kernels& kernels) noexcept
      : driver_(driver), gates_(gates), moments_(moments), kernels_(kernels) {}
  StreamWorks(const StreamWorks&) = delete;
  StreamWorks& operator=(const StreamWorks&) = delete;

  // For a message of so many bytes; nullptr where the device has no kernels, or too many wait.
  Result<std::shared_ptr<StreamWork>> take(int device, std::uint64_t most_bytes,
                                           StreamWork::Wait wait);

 private:
  friend class StreamWork;
  static constexpr std::size_t kLines = 4096;  // of a device: they are made before any is used

  struct Used {
    StreamWork::Line* line;
    std::uint32_t turn;  // the last
  };
  // Those of a device; there is room for all of them in both.
  struct Lines {
    std::vector<Used> free;
    std::vector<Used> late;  // a stream has yet to come to their ends
  };
  Result<Lines> make_lines(int device);
  void give_back(int device, Used used, bool claimed) noexcept;

  cuda_driver::Driver& driver_;
  Gates& gates_;
  Moments& moments_;
  Kernels& kernels_;
  std::mutex mutex_;  // guards the next
  std::map<int, Lines> lines_;
};

}  // namespace mooncake_mpi::cuda
