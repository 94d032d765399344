// The thread that plays the hardware: it takes the heads of all channels in turn, gives each
// operation its time and looks again and again at what waits for memory. It holds the state's lock
// but for copies, kernels and sleep, and never the driver's.
#include "drivers/cuda/fake/hardware.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <csignal>

#include "drivers/cuda/fake/queue.h"

namespace mooncake_mpi::cuda_driver::fake {
namespace {

using std::chrono::microseconds;

constexpr microseconds kFirstPoll{10};
constexpr microseconds kLastPoll{200};

// What the thread is to do when no operation of any channel can go on.
struct Look {
  bool progress = false;
  bool polls = false;
  Clock::time_point next = Clock::time_point::max();
};

// The legacy stream waits for what blocking streams were given before, and they for it.
bool has_its_turn(const Operation& operation) {
  const Stream& stream = *operation.stream;
  const auto before = [&](const Stream& other) {
    return !other.pending.empty() && other.pending.front() < operation.number;
  };
  if (stream.handle == kLegacyStream) {
    return std::ranges::none_of(stream.device->streams, [&](const auto& other) {
      return other->blocking && before(*other);
    });
  }
  const auto& legacy = stream.device->legacy;
  return !stream.blocking || legacy == nullptr || !before(*legacy);
}

void finish(Driver& driver, Channel& channel, const std::shared_ptr<Operation>& operation) {
  const auto place = std::ranges::find(channel.queue, operation);
  channel.queue.erase(place);
  Stream& stream = *operation->stream;
  stream.pending.erase(stream.pending.begin());
  if (stream.last == operation) stream.last.reset();
  if (stream.held && stream.let_go > 0) --stream.let_go;
  operation->finished = true;
  forget_finished(*stream.device);
  driver.done.notify_all();
}

void advance(Driver& driver, Channel& channel, Lock& lock, Look& look) {
  // Held streams are passed by, as if they had no work yet.
  const auto head = std::ranges::find_if(channel.queue, [](const auto& operation) {
    return !operation->stream->held || operation->stream->let_go > 0;
  });
  if (head == channel.queue.end()) return;
  const std::shared_ptr<Operation> operation = *head;
  if (!has_its_turn(*operation)) return;
  if (!operation->started) {
    operation->started = true;
    operation->due = Clock::now() + microseconds(operation->takes_time ? driver.operation_us : 0);
  }
  if (operation->takes_time && Clock::now() < operation->due) {
    look.next = std::min(look.next, operation->due);
    return;
  }
  operation->running = driver.running = true;
  const Outcome outcome = operation->run(lock);
  operation->running = driver.running = false;
  operation->not_yet = outcome == Outcome::kNotYet;
  if (operation->finished) {  // dropped meanwhile
    driver.done.notify_all();
    look.progress = true;
    return;
  }
  switch (outcome) {
    case Outcome::kDone:
      look.progress = true;
      finish(driver, channel, operation);
      operation->run = nullptr;
      break;
    case Outcome::kNotYet:
      look.polls = look.polls || operation->waits_for_memory;
      break;
    case Outcome::kFault:
      look.progress = true;
      break;
  }
}

void run_hardware(Driver& driver) {
  pthread_setname_np(pthread_self(), "fake_cuda");
  prctl(PR_SET_TIMERSLACK, 1000UL);
  Lock lock(driver.state);
  microseconds poll = kFirstPoll;
  for (;;) {
    const std::uint64_t seen = driver.next_operation;
    Look look;
    for (const auto& device : driver.devices) {
      for (Channel& channel : device->channels)
        advance(driver, channel, lock, look);
    }
    if (look.progress || seen != driver.next_operation) {
      poll = kFirstPoll;
      continue;
    }
    if (look.polls) {
      look.next = std::min(look.next, Clock::now() + poll);
      poll = std::min(poll * 2, kLastPoll);
    }
    if (look.next == Clock::time_point::max()) {
      driver.work.wait(lock);
    } else {
      driver.work.wait_until(lock, look.next);
    }
  }
}

}  // namespace

void start_hardware(Driver& driver) {
  if (driver.worker_started) return;
  driver.worker_started = true;
  // The code of a running thread must not be unloaded.
  Dl_info here{};
  if (dladdr(reinterpret_cast<void*>(&start_hardware), &here) != 0) {
    static_cast<void>(dlopen(here.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE));
  }
  // Signals are the program's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([&driver] { run_hardware(driver); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace mooncake_mpi::cuda_driver::fake
