// The end of processes, told by their descriptors or looked for. One thread waits, any other adds,
// under a lock of the watch; interrupt() and ask() take none and may be called in a signal's
// handler.
#include "drivers/linux/process_watch.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "drivers/linux/process_status.h"

namespace mooncake_mpi::linux_driver {
namespace {

constexpr std::uint64_t kWakeToken = UINT64_MAX;
constexpr int kLookEveryMs = 250;
constexpr int kMakeSureEveryMs = 2000;  // that the descriptors are still there

int open_process(pid_t pid) noexcept {
#ifdef SYS_pidfd_open
  return static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
#else
  errno = ENOSYS;
  return -1;
#endif
}

}  // namespace

SystemProcessWatch::SystemProcessWatch() noexcept {
  open_queue();
}

void SystemProcessWatch::open_queue() noexcept {
  epoll_ = FileDescriptor(out_of_the_way(epoll_create1(EPOLL_CLOEXEC)));
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) ends[0] = ends[1] = -1;
  wake_read_ = FileDescriptor(out_of_the_way(ends[0]));
  wake_write_ = FileDescriptor(out_of_the_way(ends[1]));
  epoll_event event{EPOLLIN, {.u64 = kWakeToken}};
  if (epoll_.number() >= 0 && wake_read_.number() >= 0) {
    epoll_ctl(epoll_.number(), EPOLL_CTL_ADD, wake_read_.number(), &event);
  }
}

// The program has closed descriptors of ours: what was watched is looked at from now on.
void SystemProcessWatch::look_instead() {
  // Those without an identity may be the program's own by now.
  epoll_.forget();
  for (auto& [token, process] : descriptors_)
    process.forget();
  descriptors_.clear();
  open_queue();
  looked_at_.clear();
  for (const auto& [token, process] : watched_)
    looked_at_.push_back(process);
}

ProcessWatch::Added SystemProcessWatch::add(pid_t pid, std::uint64_t start_time,
                                            std::uint64_t token) {
  if (pid == getpid()) return Added::kOwnProcess;
  const int descriptor = refused_ ? -1 : open_process(pid);
  if (descriptor < 0 && !refused_ && errno == ESRCH) return Added::kGone;
  // The descriptor pins whoever has the number now; only then does the look tell who that is. What
  // may not be looked at is told by the descriptor alone.
  if (process_has_ended(pid, start_time)) {
    if (descriptor >= 0) close(descriptor);
    return Added::kGone;
  }
  std::lock_guard lock(mutex_);
  FileDescriptor process(out_of_the_way(descriptor));
  watched_[token] = {pid, start_time, token};
  epoll_event event{EPOLLIN, {.u64 = token}};
  if (process.number() >= 0 &&
      epoll_ctl(epoll_.number(), EPOLL_CTL_ADD, process.number(), &event) == 0) {
    descriptors_[token] = std::move(process);
  } else {
    looked_at_.push_back({pid, start_time, token});
    if (looked_at_.size() == 1) interrupt();  // the sleep may have no end yet
  }
  return Added::kWatching;
}

bool SystemProcessWatch::wait(std::vector<std::uint64_t>& ended) {
  int timeout_ms;
  {
    std::lock_guard lock(mutex_);
    timeout_ms = looked_at_.empty() ? kMakeSureEveryMs : kLookEveryMs;
  }
  epoll_event events[16];
  int count = 0;
  if (epoll_.number() >= 0) {
    count = epoll_wait(epoll_.number(), events, 16, timeout_ms);
  } else {
    usleep(kLookEveryMs * 1000);
  }
  bool asked = false;
  const bool closed = count < 0 && errno != EINTR;
  std::lock_guard lock(mutex_);
  if (closed || (epoll_.number() >= 0 && !wake_read_.is_ours())) look_instead();
  for (int i = 0; i < count; ++i) {
    const std::uint64_t token = events[i].data.u64;
    if (token == kWakeToken) {
      asked = read_wakes();
      continue;
    }
    const auto found = descriptors_.find(token);
    if (found == descriptors_.end()) continue;
    descriptors_.erase(found);  // closed, and so out of the epoll set
    watched_.erase(token);
    ended.push_back(token);
  }
  look(ended);
  return asked;
}

bool SystemProcessWatch::read_wakes() noexcept {
  bool asked = false;
  char bytes[64];
  if (!wake_read_.is_ours()) return false;
  for (ssize_t got; (got = read(wake_read_.number(), bytes, sizeof bytes)) > 0;) {
    for (ssize_t i = 0; i < got; ++i)
      asked |= bytes[i] == kAsk;
  }
  return asked;
}

void SystemProcessWatch::look(std::vector<std::uint64_t>& ended) {
  std::erase_if(looked_at_, [&](const LookedAt& process) {
    const bool gone = process_has_ended(process.pid, process.start_time);
    if (gone) {
      ended.push_back(process.token);
      watched_.erase(process.token);
    }
    return gone;
  });
}

void SystemProcessWatch::write_byte(char byte) noexcept {
  const int error = errno;
  if (wake_write_.is_ours()) {
    [[maybe_unused]] const ssize_t written = write(wake_write_.number(), &byte, 1);
  }
  errno = error;
}

}  // namespace mooncake_mpi::linux_driver
