// A hang explains itself: what calls wait for, on the board and on standard error.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/linux/main_thread_stack.h"
#include "engine/engine.h"

namespace mooncake_mpi {
namespace {

// A launcher that sends SIGUSR1 when a process has failed does so right after.
constexpr std::uint64_t kNoticeNs = 2'000'000'000;

}  // namespace

std::uint64_t Engine::begin_wait(const WaitRecord& record) {
  std::lock_guard lock(mutex_);
  const std::uint64_t id = waits_.begin(record);
  call_awaited(id);
  return id;
}

// Who waits for a process of another host that it has no connection to calls it: where neither
// reaches the other, both hear of it, and not only the one that sends. Who waits for any process
// calls nobody, as that would be all of them; but there has to be one that can send something.
void Engine::call_awaited(std::uint64_t id) {
  try {
    for (const Awaited& awaited : waits_.awaited(id)) {
      Context* context = protocol_.contexts().find(awaited.context_number);
      if (context == nullptr) continue;
      if (awaited.source == kAnySource) {
        if (is_isolated(*context)) protocol_.isolate(*context);
        continue;
      }
      Peer& peer = protocol_.peer_of(*context, awaited.source);
      if (peer.channel != nullptr || peer.failure != Error::kNone || peers_.is_near(peer)) continue;
      [[maybe_unused]] const auto connected = connect(peer);  // what comes of it the channel tells
    }
  } catch (const std::bad_alloc&) {  // the wait goes on as it would
  }
}

void Engine::end_wait(std::uint64_t id) {
  std::lock_guard lock(mutex_);
  waits_.end(id);
}

std::vector<Awaited> Engine::awaited(std::uint64_t id) {
  std::lock_guard lock(mutex_);
  std::vector<Awaited> messages = waits_.awaited(id);
  std::erase_if(messages, [this](const Awaited& awaited) {
    const Context* context = protocol_.contexts().find(awaited.context_number);
    return context == nullptr || context->troubled;
  });
  return messages;
}

void Engine::found_in_library(std::uint64_t id, const LibraryMessage& message) {
  std::lock_guard lock(mutex_);
  waits_.found_in_library(id, message);
}

std::string Engine::explain(std::string_view elsewhere) {
  mutex_.lock_as_visitor();
  std::string text = waits_.explain(own_address_.pid, elsewhere) + unconnected();
  mutex_.unlock();
  return text;
}

// Of those on other hosts that a call waits for: who cannot call this process has not been heard,
// and whoever only waits for any rank calls none.
std::string Engine::unconnected() {
  constexpr std::size_t kMost = 8;
  std::map<std::string, std::vector<std::string>> by_communicator;
  const auto look = [&](Context& context, std::int32_t rank) {
    const Peer& peer = *context.members[static_cast<std::size_t>(rank)].peer;
    const bool far = peer.is_stranger || !peers_.is_near(peer);
    if (!far || peer.failure != Error::kNone) return;
    std::vector<std::string> troubles;
    if (peer.channel != nullptr && (troubles = peer.channel->troubles()).empty()) return;
    std::string line = "rank " + std::to_string(rank);
    for (const std::string& trouble : troubles)
      line += (&trouble == &troubles.front() ? " (" : "; ") + trouble;
    by_communicator[context.label].push_back(line + (troubles.empty() ? "" : ")"));
  };
  for (const std::uint64_t id : waits_.ids()) {
    for (const Awaited& awaited : waits_.awaited(id)) {
      Context* context = protocol_.contexts().find(awaited.context_number);
      if (context == nullptr) continue;
      if (awaited.source != kAnySource) {
        look(*context, awaited.source);
        continue;
      }
      for (std::int32_t rank = 0; rank < context->size; ++rank) {
        if (rank != context->rank) look(*context, rank);
      }
    }
  }
  std::string text;
  for (auto& [label, lines] : by_communicator) {
    std::ranges::sort(lines);
    lines.erase(std::unique(lines.begin(), lines.end()), lines.end());  // clang 14 has no ranges'
    text += "  not connected on " + label + " with ";
    for (std::size_t i = 0; i < lines.size() && i < kMost; ++i)
      text += (i == 0 ? "" : ", ") + lines[i];
    if (lines.size() > kMost) text += ", and " + std::to_string(lines.size() - kMost) + " more";
    text += "; whoever sends calls the other\n";
  }
  return text;
}

void Engine::ask(pid_t by) noexcept {
  asked_by_.store(by, std::memory_order_relaxed);
  watch_thread_.ask();
}

namespace {

// Where in the MPI library the main thread is, if it is: " (MPI_Barrier)".
std::string place_in_library() {
  constexpr std::array<std::string_view, 4> kLibraries{"libmpi", "libpmpi", "libopen-pal",
                                                       "libopen-rte"};
  std::string function = linux_driver::MainThreadStack::instance().function_in(kLibraries);
  if (function.empty()) return {};
  if (function.starts_with("PMPI_")) function.erase(0, 1);
  return function.starts_with("MPI_") ? " (" + function + ")" : " (a function of its own)";
}

}  // namespace

// Watch thread.
void Engine::report() {
  const pid_t by = asked_by_.exchange(0, std::memory_order_relaxed);
  mutex_.lock_as_visitor();
  const bool notice = by != 0 && by == getppid() && last_failure_ns_ != 0 &&
                      now_ns() - last_failure_ns_ < kNoticeNs;
  std::vector<std::pair<pid_t, int>> others;
  peers_.for_each([&](const Peer& peer) {
    if (!peers_.is_near(peer) || peer.failure != Error::kNone || peer.is_self) return;
    for (const auto& lane : lanes_) {
      const int descriptor = lane->board_descriptor(peer.address);
      if (descriptor >= 0) others.emplace_back(peer.address.pid, descriptor);
    }
  });
  mutex_.unlock();
  if (notice) return;  // the launcher tells of a failure that was noticed already
  std::string text = explain(place_in_library());
  if (waits_.board().rank == 0) {
    std::vector<BoardCopy> boards{copy_board(process_, waits_.board())};
    for (const auto& [pid, descriptor] : others)
      boards.push_back(read_board(pid, descriptor));
    text += describe_cycles(boards, now_ns());
  }
  copy_text(waits_.board().report, text);
  waits_.board().reports.fetch_add(1, std::memory_order_release);
  if (by == 0) return;  // who looks at the board shows it
  // One write, so that the lines of several processes do not mix.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace mooncake_mpi
