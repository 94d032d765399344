// The copies that the engine asks of GPUs. What decides on one holds the engine's lock and may not
// call the driver; it submits here, and whichever thread makes progress next issues the copy after
// it has let go of that lock. That a copy is done shows in a word, without any call. Nobody is told
// of what a stream writes: who waits for it looks.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "drivers/cuda/driver.h"
#include "memory/cuda/copy_stream.h"
#include "memory/cuda/gate.h"
#include "memory/cuda/kernels/kernels.h"
#include "memory/cuda/moment.h"
#include "memory/cuda/resident.h"
#include "memory/memory_device.h"

namespace mooncake_mpi::cuda {

// One copy by a copy engine. Its owner looks at it and may let go of it at any time.
class Copy {
 public:
  // To the host, from it, to another GPU, from another.
  enum class Kind : std::uint8_t { kDown, kUp, kPush, kPull };
  static constexpr std::size_t kKinds = 4;

  // Whether it is over; if so it may have failed.
  bool over() const noexcept {
    const State state = state_.load(std::memory_order_acquire);
    if (state == State::kUnderWay) {
      return static_cast<std::int32_t>(stream_->word->load(std::memory_order_acquire) - ticket_) >=
             0;
    }
    return state != State::kQueued && state != State::kIssuing;
  }
  bool failed() const noexcept { return state_.load(std::memory_order_acquire) == State::kFailed; }

 private:
  friend class CopyQueue;
  enum class State : std::uint8_t { kQueued, kIssuing, kUnderWay, kFailed, kDropped };

  Kind kind_ = Kind::kDown;
  int device_ = -1;
  cuda_driver::DeviceAddress to_ = 0;
  cuda_driver::DeviceAddress from_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t rows_ = 1;
  std::uint64_t to_pitch_ = 0;
  bool reachable_ = false;
  std::shared_ptr<const Moment> after_;
  std::shared_ptr<const void> kept_;
  cuda_driver::Stream* stream_ = nullptr;
  std::uint32_t ticket_ = 0;
  std::atomic<State> state_{State::kQueued};
};

class CopyQueue final : public DeviceWork {
 public:
  CopyQueue(cuda_driver::Driver& driver, Moments& moments, Gates& gates, Kernels& kernels) noexcept
      : driver_(driver), moments_(moments), gates_(gates), kernels_(kernels) {}
  CopyQueue(const CopyQueue&) = delete;
  CopyQueue& operator=(const CopyQueue&) = delete;

  struct Request {
    Copy::Kind kind = Copy::Kind::kDown;
    int device = -1;  // whose engine copies
    cuda_driver::DeviceAddress to = 0;
    cuda_driver::DeviceAddress from = 0;
    std::uint64_t bytes = 0;
    std::shared_ptr<const Moment> after;  // begins then; nullptr: at once
    std::uint64_t rows = 1;               // into so many of that size, so far apart
    std::uint64_t to_pitch = 0;
    bool reachable = false;  // by kernels of the device, at both ends
    std::shared_ptr<const void>
        kept{};  // what it needs, let go of when nothing is touched any more
  };
  // Copies of one kind on one device that need not wait are known to be over in this order.
  std::shared_ptr<Copy> submit(const Request& request);
  // Whether the copy had not begun, and never will.
  bool withdraw(Copy& copy) noexcept {
    auto queued = Copy::State::kQueued;
    return copy.state_.compare_exchange_strong(queued, Copy::State::kDropped);
  }
  // True: the copy touches nothing any more, for it had not begun, or is over. False: it stands
  // behind a stream of the program's that waits for a message, perhaps one that the caller is to
  // end; what it needs has to stay.
  bool drop(Copy& copy) noexcept;
  // Other calls of the driver, once.
  void defer(std::function<void()> call);

  // A device on which nothing goes on any more, because of an error of the program's or ours.
  bool has_failed(int device) const noexcept {
    return device >= 0 && device < kMaxDevices &&
           failed_[static_cast<std::size_t>(device)].load(std::memory_order_acquire);
  }
  std::string trouble() const;  // in words, the first

  // Of moments that no copy waits for somebody has to hear, too, and of a device that fails before.
  bool waits() const noexcept override {
    return active_.load(std::memory_order_relaxed) != 0 || moments_.some_awaited();
  }
  bool streams_awaited() const noexcept override {
    return moments_.some_awaited() || gates_.some_closed();
  }
  std::uint64_t nap_ns() const noexcept override;
  // What there is no memory for is done by a later call. While a stream of the program waits a
  // thread of the queue's own does it: the driver may keep whoever calls it until that wait ends,
  // and who answers packets is who ends it.
  void run(bool more_to_come = false) noexcept override;

 private:
  static constexpr int kMaxDevices = 64;
  static constexpr std::uint64_t kCheckNs = 5'000'000;
  static constexpr std::uint64_t kStuckNs = 20'000'000;
  // That many go on with the work of an engine; what comes meanwhile is given to it at once then.
  static constexpr std::uint32_t kBatchesUnderWay = 2;
  // What makes a batch while more is to come.
  static constexpr std::size_t kBatch = 8;
  static constexpr std::uint64_t kBatchBytes = std::uint64_t{8} << 20;

  struct Engine {
    CopyStream stream;
    std::vector<std::shared_ptr<Copy>> next;  // to be issued now
    std::size_t waiting = 0;                  // copies that are to come, and their bytes
    std::uint64_t waiting_bytes = 0;
    bool has_room = true;
    std::vector<std::shared_ptr<Copy>> batch;   // issued since the stream's word was last ordered
    std::vector<std::shared_ptr<Copy>> issued;  // before that; they end in this order
  };

  bool leave_to_thread() noexcept;
  void run_thread() noexcept;
  void run_here(bool more_to_come, bool alone) noexcept;
  void take_inbox();
  void make_calls();
  void make_room();
  bool may_begin(const Copy& copy) const noexcept;
  bool has_room(const Engine& engine, bool more_to_come) const noexcept;
  void look_for_room(bool more_to_come) noexcept;
  void look_for_streams(bool may_issue) noexcept;
  bool issue(const Copy& copy, Engine& engine) noexcept;
  bool issue_together(Engine& engine) noexcept;
  void begin(const std::shared_ptr<Copy>& copy) noexcept;
  bool give_to_resident(const std::shared_ptr<Copy>& copy) noexcept;
  void issue_all() noexcept;
  void close_batches() noexcept;
  bool close(cuda_driver::Stream& stream) noexcept;
  void retire() noexcept;
  void check_health();
  void fail(int device) noexcept;
  Engine& engine_of(int device, Copy::Kind kind) noexcept;
  Result<cuda_driver::Stream*> stream_of(Engine& engine, int device);
  void note_trouble(const std::string& reason);

  cuda_driver::Driver& driver_;
  Moments& moments_;
  Gates& gates_;
  Kernels& kernels_;
  std::atomic<std::uint32_t> active_{0};  // submitted or deferred, and not over
  std::atomic<std::uint32_t> under_way_{0};
  std::array<std::atomic<bool>, kMaxDevices> failed_{};

  mutable std::mutex inbox_mutex_;  // guards the next three; held for moments only
  std::vector<std::shared_ptr<Copy>> inbox_;
  std::vector<std::function<void()>> new_calls_;
  std::string trouble_;

  std::mutex mutex_;  // guards the rest; held while the driver is called
  std::vector<std::array<Engine, Copy::kKinds>> engines_;  // by device
  // What a block that stays has been given, by device.
  struct Stayer {
    explicit Stayer(cuda_driver::Driver& driver, Kernels& kernels, int device) noexcept
        : resident(driver, kernels, device) {}
    Resident resident;
    std::vector<std::shared_ptr<Copy>> issued;
  };
  std::vector<std::unique_ptr<Stayer>> stayers_;
  std::vector<std::shared_ptr<Copy>> waiting_;  // for their moments
  std::vector<std::function<void()>> calls_;
  cuda_driver::CopyParts parts_;
  std::atomic<std::uint64_t> checked_ns_{0};

  std::mutex thread_mutex_;  // guards its start
  bool has_thread_ = false;
  std::atomic<std::uint32_t> asked_{0};  // a futex; 1: the thread has to look
};

}  // namespace mooncake_mpi::cuda
