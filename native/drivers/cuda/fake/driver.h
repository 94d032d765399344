// The state of the fake driver, and what every call does first. Two locks: `call` is the driver's
// own, which a call holds and another thread's call waits for, and `state` guards all that is here.
// The thread that plays the hardware takes `state` alone, so that it goes on under a call that
// blocks. Lock `call` before `state`.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "drivers/cuda/abi.h"
#include "drivers/cuda/fake/fake_cuda.h"

namespace mooncake_mpi::cuda_driver::fake {

#define MOONCAKE_MPI_FAKE_CUDA_DECLARE(name, ...) FAKE_CUDA_EXPORT CUresult name(__VA_ARGS__);
MOONCAKE_MPI_CUDA_FUNCTIONS(MOONCAKE_MPI_FAKE_CUDA_DECLARE)
MOONCAKE_MPI_CUDA_LATER_FUNCTIONS(MOONCAKE_MPI_FAKE_CUDA_DECLARE)
#undef MOONCAKE_MPI_FAKE_CUDA_DECLARE

// What programs call and the library does not; the Python tests play such a program.
#define MOONCAKE_MPI_FAKE_CUDA_MORE(F)                                         \
  F(cuCtxSetCurrent, CUcontext context)                                        \
  F(cuCtxSynchronize, )                                                        \
  F(cuEventSynchronize, CUevent event)                                         \
  F(cuStreamBeginCapture, CUstream stream, CUstreamCaptureMode mode)           \
  F(cuStreamEndCapture, CUstream stream, CUgraph* graph)                       \
  F(cuGraphInstantiate, CUgraphExec* exec, CUgraph graph, std::uint64_t flags) \
  F(cuGraphLaunch, CUgraphExec exec, CUstream stream)                          \
  F(cuGraphExecDestroy, CUgraphExec exec)                                      \
  F(cuGraphDestroy, CUgraph graph)

using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;

FAKE_CUDA_EXPORT CUresult cuCtxSetCurrent(CUcontext context);
FAKE_CUDA_EXPORT CUresult cuCtxSynchronize();
FAKE_CUDA_EXPORT CUresult cuEventSynchronize(CUevent event);
FAKE_CUDA_EXPORT CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode);
FAKE_CUDA_EXPORT CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph);
FAKE_CUDA_EXPORT CUresult cuGraphInstantiate(CUgraphExec* exec, CUgraph graph, std::uint64_t flags);
FAKE_CUDA_EXPORT CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream);
FAKE_CUDA_EXPORT CUresult cuGraphExecDestroy(CUgraphExec exec);
FAKE_CUDA_EXPORT CUresult cuGraphDestroy(CUgraph graph);

enum class Function : unsigned {
#define MOONCAKE_MPI_FAKE_CUDA_NUMBER(name, ...) name,
  MOONCAKE_MPI_CUDA_FUNCTIONS(MOONCAKE_MPI_FAKE_CUDA_NUMBER)
      MOONCAKE_MPI_CUDA_LATER_FUNCTIONS(MOONCAKE_MPI_FAKE_CUDA_NUMBER)
          MOONCAKE_MPI_FAKE_CUDA_MORE(MOONCAKE_MPI_FAKE_CUDA_NUMBER)
#undef MOONCAKE_MPI_FAKE_CUDA_NUMBER
              kCount
};
inline constexpr std::size_t kFunctions = static_cast<std::size_t>(Function::kCount);

extern const std::array<const char*, kFunctions> kFunctionNames;
extern const std::array<void*, kFunctions> kFunctionAddresses;
// The number of a function, or kFunctions.
std::size_t function_number(std::string_view name);

using Clock = std::chrono::steady_clock;
using Lock = std::unique_lock<std::mutex>;

struct Block;
struct Capture;
struct Event;
struct Graph;
struct Kernel;
struct LoadedFunction;
struct Operation;
struct Stream;

// What a test wants of a function's calls.
struct Fault {
  long calls = 0;
  CUresult error = CUDA_SUCCESS;
  int skip = 0;
  int times = 0;
  unsigned delay_us = 0;
};

// A queue of the hardware: what its streams were given, in the order of the calls.
struct Channel {
  std::vector<std::shared_ptr<Operation>> queue;
};

// A visible device and its primary context.
struct Device {
  int ordinal = 0;
  int physical = 0;
  CUuuid uuid{};
  CUcontext context = nullptr;  // the handle is the same for the life of the process
  unsigned retained = 0;
  std::set<CUcontext> peers;
  std::vector<Channel> channels;  // the last is the legacy stream's
  std::size_t next_channel = 0;
  std::shared_ptr<Stream> legacy;
  std::map<std::thread::id, std::shared_ptr<Stream>> per_thread;
  std::vector<std::shared_ptr<Stream>> streams;  // and those destroyed that have work left
};

struct Driver {
  std::mutex call;
  std::mutex state;
  std::condition_variable work;  // for the hardware's thread
  std::condition_variable done;  // for calls that wait for it
  bool worker_started = false;
  bool running = false;  // it is at an operation, with the lock or without

  bool initialised = false;
  bool eager = false;
  bool no_peer = false;
  bool opens_own = false;
  CUresult broken = CUDA_SUCCESS;  // an error of the device: for all calls from then on
  std::vector<std::unique_ptr<Device>> devices;
  unsigned operation_us = 5;
  std::array<Fault, kFunctions> faults;

  std::uint64_t next_handle = 0;
  std::uint64_t next_buffer = 0x100;
  std::uint64_t next_operation = 0;

  std::map<CUdeviceptr, std::shared_ptr<Block>> blocks;  // by their first address
  std::map<CUdeviceptr, std::size_t> freed;              // reserved, and nobody's
  std::multimap<std::size_t, CUdeviceptr> reusable;      // the same by size
  std::unordered_map<CUstream, std::shared_ptr<Stream>> streams;
  std::unordered_map<CUevent, std::shared_ptr<Event>> events;
  std::unordered_map<CUmodule, Device*> modules;
  std::unordered_map<CUfunction, std::shared_ptr<LoadedFunction>> functions;
  std::map<std::string, std::shared_ptr<Kernel>> kernels;
  std::vector<std::shared_ptr<Capture>> captures;  // that have begun and not ended
  std::unordered_map<CUgraph, std::shared_ptr<Graph>> graphs;
  std::unordered_map<CUgraphExec, std::shared_ptr<Graph>> graph_execs;

  std::atomic<int> in_call = 0;

  // Handles are never dereferenced and never come twice.
  template <class Handle>
  Handle new_handle() {
    return reinterpret_cast<Handle>(std::uintptr_t{0xfa4e0000} + ++next_handle * 16);
  }

  Device* device_of(CUcontext context);
  Device* device_at(CUdevice ordinal);
};

// There is one for the life of the process; it is never destroyed, as threads may outlive main().
Driver& driver();

// The contexts that this thread has pushed. Calls of a thread's last destructors still find it.
class ContextStack {
 public:
  bool empty() const { return depth_ == 0; }
  bool full() const { return depth_ == kDepth; }
  CUcontext top() const { return contexts_[depth_ - 1]; }
  void push(CUcontext context) { contexts_[depth_++] = context; }
  void pop() { --depth_; }

 private:
  static constexpr std::size_t kDepth = 64;
  CUcontext contexts_[kDepth];
  std::size_t depth_;
};
ContextStack& context_stack();
// How this thread takes others' captures.
CUstreamCaptureMode& capture_mode();

// Whether this thread runs a function that a stream calls.
bool& calling_host();

// A call that must not be made while somebody captures ends the captures: CUDA_SUCCESS where there
// is none that this thread could disturb.
CUresult disturb_captures(Driver& driver);

// What must be there for a call to be of use.
enum class Needs {
  kNothing,
  kDriver,   // cuInit was called
  kHealthy,  // and the device has met no error
  kContext,  // and this thread has a current context
};

// Stands for the time of one driver call and holds both locks, unless it has failed at once.
class Call {
 public:
  Call(Function function, Needs needs);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  bool failed() const { return error_ != CUDA_SUCCESS; }
  CUresult error() const { return error_; }
  Driver& driver() { return driver_; }
  // The current context's device; null without one.
  Device* device() { return device_; }

  // Waits with the driver's lock held, as a call does that other threads' calls wait for.
  template <class Predicate>
  void block(Predicate predicate) {
    driver_.done.wait(state_, predicate);
  }

  // Waits while other threads call. The call can only end afterwards.
  template <class Predicate>
  CUresult wait(Predicate predicate) {
    call_.unlock();
    driver_.done.wait(state_, [&] { return driver_.broken != CUDA_SUCCESS || predicate(); });
    return driver_.broken;
  }

  // The same, whatever happens to the device.
  template <class Predicate>
  CUresult wait_for_all(Predicate predicate) {
    call_.unlock();
    driver_.done.wait(state_, predicate);
    return driver_.broken;
  }

 private:
  CUresult check(Function function, Needs needs);

  Driver& driver_;
  Lock call_;
  Lock state_;
  Device* device_ = nullptr;
  CUresult error_ = CUDA_SUCCESS;
};

}  // namespace mooncake_mpi::cuda_driver::fake
