#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "drivers/linux/file_descriptor.h"

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

  // Sleeps until processes have ended, and appends their tokens, or until interrupt() or ask().
  // True if somebody asked.
  virtual bool wait(std::vector<std::uint64_t>& ended) = 0;
  // These two are async-signal-safe.
  virtual void interrupt() noexcept = 0;
  virtual void ask() noexcept = 0;
  // Another process of this user asks by writing kAsk there, through /proc; -1: it cannot.
  virtual int ask_descriptor() const noexcept { return -1; }
  // Of that pipe, by which the other process makes sure that the number still means it.
  virtual std::uint64_t ask_inode() const noexcept { return 0; }
  static constexpr char kAsk = '?';
};

// pidfd_open(2) and epoll. Where the kernel or a limit refuses a descriptor for a process, that
// process is looked at four times a second instead.
class SystemProcessWatch final : public ProcessWatch {
 public:
  SystemProcessWatch() noexcept;
  SystemProcessWatch(const SystemProcessWatch&) = delete;
  SystemProcessWatch& operator=(const SystemProcessWatch&) = delete;

  Added add(pid_t pid, std::uint64_t start_time, std::uint64_t token) override;
  bool wait(std::vector<std::uint64_t>& ended) override;
  void interrupt() noexcept override { write_byte(0); }
  void ask() noexcept override { write_byte(kAsk); }
  int ask_descriptor() const noexcept override { return wake_write_.number(); }
  std::uint64_t ask_inode() const noexcept override { return wake_write_.inode(); }

  // As if the kernel had no pidfd_open; for tests.
  void refuse_descriptors() noexcept { refused_ = true; }

 private:
  struct LookedAt {
    pid_t pid;
    std::uint64_t start_time;
    std::uint64_t token;
  };

  void write_byte(char byte) noexcept;
  bool read_wakes() noexcept;
  void look(std::vector<std::uint64_t>& ended);

  void open_queue() noexcept;
  void look_instead();

  FileDescriptor epoll_;
  FileDescriptor wake_read_;  // of a pipe
  FileDescriptor wake_write_;
  bool refused_ = false;
  std::mutex mutex_;                                     // guards what follows
  std::unordered_map<std::uint64_t, LookedAt> watched_;  // all of them
  std::unordered_map<std::uint64_t, FileDescriptor> descriptors_;
  std::vector<LookedAt> looked_at_;
};

}  // namespace mooncake_mpi::linux_driver
