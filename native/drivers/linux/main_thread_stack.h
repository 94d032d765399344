#pragma once

// Where the main thread is, for whoever asks from another thread: which function of a library it
// has called and not returned from. It is asked with a signal, and looks at its own stack.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace mooncake_mpi::linux_driver {

class MainThreadStack {
 public:
  // Of the process: a signal's handler has no other way to it.
  static MainThreadStack& instance() noexcept;

  // The handler of `signal` calls answer() from now on.
  void use(int signal) noexcept { signal_.store(signal); }
  // In the handler: whether the signal was a question, which is answered.
  bool answer() noexcept;

  // The outermost function under way of the libraries whose file names begin with one of
  // `libraries`; "?" where it has no name. Empty if there is none, or no answer. For one thread
  // that is not the main one.
  std::string function_in(std::span<const std::string_view> libraries);

 private:
  enum class State : std::uint8_t { kIdle, kAsked, kAnswered };
  static constexpr std::size_t kFrames = 128;

  std::atomic<int> signal_{0};
  std::atomic<State> state_{State::kIdle};
  std::size_t count_ = 0;
  std::array<std::uintptr_t, kFrames> frames_{};  // the innermost first
};

}  // namespace mooncake_mpi::linux_driver
