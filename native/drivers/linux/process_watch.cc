#include "drivers/linux/process_watch.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "drivers/linux/process_status.h"

namespace mooncake_mpi::linux_driver {
namespace {

constexpr std::uint64_t kWakeToken = UINT64_MAX;
constexpr int kLookEveryMs = 250;

int open_process(pid_t pid) noexcept {
#ifdef SYS_pidfd_open
  return static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
#else
  errno = ENOSYS;
  return -1;
#endif
}

}  // namespace

SystemProcessWatch::SystemProcessWatch() noexcept : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (pipe2(wake_, O_CLOEXEC | O_NONBLOCK) != 0) wake_[0] = wake_[1] = -1;
  epoll_event event{EPOLLIN, {.u64 = kWakeToken}};
  if (epoll_ >= 0 && wake_[0] >= 0) epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_[0], &event);
}

SystemProcessWatch::~SystemProcessWatch() {
  for (const auto& [token, descriptor] : descriptors_)
    close(descriptor);
  for (const int end : wake_) {
    if (end >= 0) close(end);
  }
  if (epoll_ >= 0) close(epoll_);
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
  epoll_event event{EPOLLIN, {.u64 = token}};
  if (descriptor >= 0 && epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) == 0) {
    descriptors_[token] = descriptor;
  } else {
    if (descriptor >= 0) close(descriptor);
    looked_at_.push_back({pid, start_time, token});
    if (looked_at_.size() == 1) interrupt();  // the sleep may have no end yet
  }
  return Added::kWatching;
}

bool SystemProcessWatch::wait(std::vector<std::uint64_t>& ended) {
  int timeout_ms;
  {
    std::lock_guard lock(mutex_);
    timeout_ms = looked_at_.empty() ? -1 : kLookEveryMs;
  }
  epoll_event events[16];
  int count = 0;
  if (epoll_ >= 0) {
    count = epoll_wait(epoll_, events, 16, timeout_ms);
  } else {
    usleep(kLookEveryMs * 1000);
  }
  bool asked = false;
  std::lock_guard lock(mutex_);
  for (int i = 0; i < count; ++i) {
    const std::uint64_t token = events[i].data.u64;
    if (token == kWakeToken) {
      asked = read_wakes();
      continue;
    }
    const auto found = descriptors_.find(token);
    if (found == descriptors_.end()) continue;
    close(found->second);  // which takes it out of the epoll set
    descriptors_.erase(found);
    ended.push_back(token);
  }
  look(ended);
  return asked;
}

bool SystemProcessWatch::read_wakes() noexcept {
  bool asked = false;
  char bytes[64];
  for (ssize_t got; (got = read(wake_[0], bytes, sizeof bytes)) > 0;) {
    for (ssize_t i = 0; i < got; ++i)
      asked |= bytes[i] == kAsk;
  }
  return asked;
}

void SystemProcessWatch::look(std::vector<std::uint64_t>& ended) {
  std::erase_if(looked_at_, [&](const LookedAt& process) {
    const bool gone = process_has_ended(process.pid, process.start_time);
    if (gone) ended.push_back(process.token);
    return gone;
  });
}

void SystemProcessWatch::write_byte(char byte) noexcept {
  const int error = errno;
  [[maybe_unused]] const ssize_t written = write(wake_[1], &byte, 1);
  errno = error;
}

}  // namespace mooncake_mpi::linux_driver
