#include "drivers/linux/main_thread_stack.h"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>

namespace mooncake_mpi::linux_driver {
namespace {

constexpr useconds_t kLookUs = 1'000;
constexpr int kLooks = 200;  // a thread that is stopped, or blocks the signal, does not answer

struct Trace {
  std::span<std::uintptr_t> frames;
  std::size_t count = 0;
};

_Unwind_Reason_Code add_frame(_Unwind_Context* context, void* argument) {
  Trace& trace = *static_cast<Trace*>(argument);
  if (trace.count == trace.frames.size()) return _URC_END_OF_STACK;
  trace.frames[trace.count++] = _Unwind_GetIP(context);
  return _URC_NO_REASON;
}

pid_t this_thread() noexcept {
  return static_cast<pid_t>(syscall(SYS_gettid));
}

}  // namespace

MainThreadStack& MainThreadStack::instance() noexcept {
  static auto* stack = new MainThreadStack;  // a signal may come until the process ends
  return *stack;
}

bool MainThreadStack::answer() noexcept {
  if (state_.load(std::memory_order_acquire) != State::kAsked || this_thread() != getpid()) {
    return false;
  }
  Trace trace{frames_};
  _Unwind_Backtrace(add_frame, &trace);
  count_ = trace.count;
  state_.store(State::kAnswered, std::memory_order_release);
  return true;
}

std::string MainThreadStack::function_in(std::span<const std::string_view> libraries) {
  const int signal = signal_.load();
  if (signal == 0) return {};
  state_.store(State::kAsked, std::memory_order_release);
  if (syscall(SYS_tgkill, getpid(), getpid(), signal) != 0) return {};
  for (int look = 0; look < kLooks && state_.load(std::memory_order_acquire) == State::kAsked;
       ++look) {
    usleep(kLookUs);
  }
  // One that comes later finds no question, and is an ordinary signal.
  if (state_.exchange(State::kIdle, std::memory_order_acq_rel) != State::kAnswered) return {};
  std::string found;
  for (std::size_t i = 0; i < count_; ++i) {
    Dl_info info{};
    if (dladdr(reinterpret_cast<void*>(frames_[i]), &info) == 0 || info.dli_fname == nullptr) {
      continue;
    }
    std::string_view file = info.dli_fname;
    file.remove_prefix(std::min(file.size(), file.rfind('/') + 1));
    if (std::ranges::any_of(libraries, [&](auto library) { return file.starts_with(library); })) {
      found = info.dli_sname != nullptr ? info.dli_sname : "?";
    }
  }
  return found;
}

}  // namespace mooncake_mpi::linux_driver
