// Streams of the fake driver and the hardware that runs them: some channels a device, each of which
// takes what its streams were given strictly in the order of the calls. What waits at the head of a
// channel holds up the streams behind it. All with the state's lock held.
#pragma once

#include <functional>

#include "drivers/cuda/fake/driver.h"

namespace mooncake_mpi::cuda_driver::fake {

struct Stream {
  CUstream handle = nullptr;
  Device* device = nullptr;
  std::size_t channel = 0;
  bool blocking = true;  // works with the legacy stream in turn
  bool destroyed = false;
  bool capturing = false;            // by fake_cuda_set_capturing()
  std::shared_ptr<Capture> capture;  // what it is given becomes part of a graph
  bool held = false;
  unsigned let_go = 0;                 // operations that run though it is held
  std::vector<std::uint64_t> pending;  // numbers of its operations, the oldest first
  std::shared_ptr<Operation> last;     // null when it is done
};

inline bool captures(const Stream& stream) {
  return stream.capturing || stream.capture != nullptr;
}

enum class Outcome { kDone, kNotYet, kFault };

struct Operation {
  // Runs it or says that it cannot run yet. May let the lock go in between.
  std::function<Outcome(Lock&)> run;
  bool takes_time = true;
  // A wait for memory, or a kernel that may be one: nothing in the queues tells its end.
  bool waits_for_memory = false;

  std::shared_ptr<Stream> stream;
  std::uint64_t number = 0;
  bool started = false;
  bool running = false;
  bool not_yet = false;
  Clock::time_point due;
  bool finished = false;  // or dropped
};

// What a stream was given while it captured, in order: the graphs here have no branches.
struct Graph {
  std::vector<Operation> operations;
};

struct Capture {
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::thread::id thread;
  bool invalidated = false;
  std::shared_ptr<Graph> graph;
};

// What was recorded last; null: nothing yet, which counts as done.
struct Event {
  CUcontext context = nullptr;
  std::shared_ptr<Operation> recorded;
};

std::shared_ptr<Stream> make_stream(Driver& driver, Device& device, bool blocking);
// The stream that a handle names: the device's legacy stream, this thread's, or a created one.
std::shared_ptr<Stream> find_stream(Driver& driver, Device* device, CUstream handle);
// Forgets streams that are destroyed and have nothing left to do.
void forget_finished(Device& device);

// Puts an operation into a stream; a capturing stream swallows it.
std::shared_ptr<Operation> submit(Driver& driver, const std::shared_ptr<Stream>& stream,
                                  Operation operation);

// Whether all is done that a stream was given, and for the legacy stream all of the streams that
// work with it in turn.
bool idle(const Stream& stream);
// What has to finish for that.
std::vector<std::shared_ptr<Operation>> unfinished(const Stream& stream);
// Whether a stream of the process waits for memory, or spins.
bool something_waits(const Driver& driver);

// Ends what is queued, undone.
void drop(Driver& driver, Device& device);
// An error of the device.
void break_down(Driver& driver, CUresult error);

}  // namespace mooncake_mpi::cuda_driver::fake
