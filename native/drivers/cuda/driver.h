// What the engine needs of CUDA, and no more. Any thread may call; calls may block for as long as
// the driver's lock is held elsewhere, so none is made with the engine's lock held.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "drivers/cuda/abi.h"
#include "drivers/cuda/library.h"

namespace mooncake_mpi::cuda_driver {

using DeviceAddress = std::uint64_t;
using StreamHandle = std::uintptr_t;  // CUstream, with CUDA's own numbers for the default streams
// A program of the device's, and one of its functions; for the life of the process.
using Image = CUmodule;
using Function = CUfunction;
using IpcHandle = std::array<std::byte, sizeof(CUipcMemHandle)>;

// The allocation that an address belongs to.
struct Allocation {
  bool on_device = false;  // else host memory, pinned or managed or unknown to CUDA
  int device = -1;         // ordinal
  DeviceAddress base = 0;
  std::uint64_t bytes = 0;
  std::uint64_t id = 0;     // never used again in this process
  bool exportable = false;  // by an IPC handle
};

// Bytes as rows of one length; `pitch` is the distance of their beginnings.
struct Rows {
  DeviceAddress address = 0;
  std::uint64_t pitch = 0;
};

// Several copies at once.
struct CopyParts {
  std::vector<DeviceAddress> to;
  std::vector<DeviceAddress> from;
  std::vector<std::size_t> bytes;
};

enum class Step : std::uint8_t { kNotYet, kReached, kFailed };

// A stream of the engine's own, with a word in pinned memory that follows its work: a host that
// looks at a word knows in half of the time that an event takes.
struct Stream {
  int device = -1;
  CUstream handle = nullptr;
  std::atomic<std::uint32_t>* word = nullptr;
  std::uint32_t submitted = 0;  // the word's value when all that was submitted is done
};

class Driver {
 public:
  // Of this process; loaded at the first call, whose `file` counts.
  static Result<Driver*> instance(const std::string& file = "libcuda.so.1");

  int devices() const noexcept { return static_cast<int>(contexts_.size()); }
  Result<Allocation> locate(DeviceAddress address) const;

  // What `stream` has been given so far is done when the word has that value: written by the
  // stream itself. False: it was idle, and nothing is written.
  Result<bool> mark(int device, StreamHandle stream, std::atomic<std::uint32_t>& word,
                    std::uint32_t value);

  // The same always, and whoever else may be idle.
  Result<bool> write_in(int device, StreamHandle stream, std::atomic<std::uint32_t>& word,
                        std::uint32_t value);

  // Work for a stream of the program's, after what it has been given so far.
  Result<bool> copy_in(int device, StreamHandle stream, DeviceAddress to, DeviceAddress from,
                       std::uint64_t bytes);
  Result<bool> copy_rows_in(int device, StreamHandle stream, const Rows& to, const Rows& from,
                            std::uint64_t row_bytes, std::uint64_t rows);
  // It goes on when the host has stored that value in the word, or a later one.
  Result<bool> wait_in(int device, StreamHandle stream, const std::atomic<std::uint32_t>& word,
                       std::uint32_t value);
  // Kernels: `image` is PTX, which the driver compiles.
  Result<Image> load_image(int device, const char* image);
  Result<Function> function_of(int device, Image image, const char* name);
  Result<bool> launch_in(int device, StreamHandle stream, Function function, unsigned blocks,
                         unsigned threads, void** parameters);
  // It calls the function on a thread of the driver's, which must not call the driver.
  Result<bool> call_in(int device, StreamHandle stream, void (*function)(void*), void* argument);
  // The device that a stream belongs to; of the default streams, which every device has, that is
  // `device`, or that of the thread's current context where it is none.
  Result<int> device_of(StreamHandle stream, int device);
  // Whether it is being captured into a graph; one whose capture has failed is refused.
  Result<bool> captures(int device, StreamHandle stream);

  Result<Stream*> make_stream(int device);
  Result<bool> copy(Stream& stream, DeviceAddress to, DeviceAddress from, std::uint64_t bytes);
  // All of them, in no order of their own: less than half of the work of one call for each.
  bool copies_batches() const noexcept { return cuda_.cuMemcpyBatchAsync != nullptr; }
  Result<bool> copy_batch(Stream& stream, CopyParts& parts);
  // From now on the word will show that what was submitted before is done.
  Result<bool> close_batch(Stream& stream);
  // Whether the stream's work goes on at all; a word says nothing of errors.
  Result<bool> check(Stream& stream);

  // The device's own memory, which other processes may open, for the life of the process.
  Result<std::byte*> allocate_device(int device, std::size_t bytes);
  // Pinned memory for all devices, for the life of the process; zeros. `device` is one in use.
  Result<std::byte*> allocate_pinned(int device, std::size_t bytes);

  Result<IpcHandle> export_memory(int device, DeviceAddress base);
  Result<DeviceAddress> open_memory(int device, const IpcHandle& handle);
  void close_memory(int device, DeviceAddress base) noexcept;

 private:
  class Use;  // a device's context is current

  explicit Driver(const Library& library) : cuda_(library) {}
  Result<CUcontext> context(int device);
  Failure failure(const char* what, CUresult error) const;
  template <class Call>
  Result<bool> in_stream(int device, const char* what, Call&& call);

  const Library& cuda_;
  std::mutex mutex_;                 // guards what is below
  std::vector<CUcontext> contexts_;  // primary ones, by ordinal; null: not in use here
};

}  // namespace mooncake_mpi::cuda_driver
