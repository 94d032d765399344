#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace mooncake_mpi::linux_driver {

// Tells when processes end, at no cost while they live. One thread waits; any thread may add.
class ProcessWatch {
 public:
  virtual ~ProcessWatch() = default;

  enum class Added : std::uint8_t { kWatching, kGone, kOwnProcess };
  // Watches the process `pid` that started at `start_time` (clock ticks since boot, 0: unknown):
  // another process that was given the same number since is not taken for it. `token` is what
  // wait() reports, once.
  virtual Added add(pid_t pid, std::uint64_t start_time, std::uint64_t token) = 0;

  // Sleeps until processes have ended, and appends their tokens, or until interrupt().
  virtual void wait(std::vector<std::uint64_t>& ended) = 0;
  // Async-signal-safe.
  virtual void interrupt() noexcept = 0;
};

// Whether the process `pid` that started at `start_time` (clock ticks since boot, 0: unknown) is
// no more, or a zombie.
bool process_has_ended(pid_t pid, std::uint64_t start_time);

// pidfd_open(2) and epoll. Where the kernel or a limit refuses a descriptor for a process, that
// process is looked at four times a second instead.
class SystemProcessWatch final : public ProcessWatch {
 public:
  SystemProcessWatch() noexcept;
  ~SystemProcessWatch() override;
  SystemProcessWatch(const SystemProcessWatch&) = delete;
  SystemProcessWatch& operator=(const SystemProcessWatch&) = delete;

  Added add(pid_t pid, std::uint64_t start_time, std::uint64_t token) override;
  void wait(std::vector<std::uint64_t>& ended) override;
  void interrupt() noexcept override;

  // As if the kernel had no pidfd_open; for tests.
  void refuse_descriptors() noexcept { refused_ = true; }

 private:
  struct LookedAt {
    pid_t pid;
    std::uint64_t start_time;
    std::uint64_t token;
  };

  void look(std::vector<std::uint64_t>& ended);

  int epoll_ = -1;
  int wake_ = -1;  // an eventfd
  bool refused_ = false;
  std::mutex mutex_;  // guards the two below
  std::unordered_map<std::uint64_t, int> descriptors_;
  std::vector<LookedAt> looked_at_;
};

}  // namespace mooncake_mpi::linux_driver
