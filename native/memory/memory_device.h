#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "memory/buffer.h"
#include "memory/sink.h"
#include "memory/source.h"

namespace mooncake_mpi {

// Memory that the processor does not load or store, such as a GPU's. Its driver may block a call
// for long, so these are made without the engine's lock.
class MemoryDevice {
 public:
  virtual ~MemoryDevice() = default;
  // What brings the bytes of such a buffer to the host, and what takes them from there, in the
  // order of the buffer's stream.
  virtual Result<std::unique_ptr<Source>> source(const Buffer& buffer) = 0;
  virtual Result<std::unique_ptr<Sink>> sink(const Buffer& buffer) = 0;
  // It is memory of the host, which may be touched in a stream's order only.
  virtual bool is_host() const noexcept { return false; }
};

// What sources, sinks and movers have to ask of a driver: decided on with the engine's lock held,
// and done without it by whichever thread makes progress next. Any thread.
class DeviceWork {
 public:
  virtual ~DeviceWork() = default;
  virtual bool waits() const noexcept = 0;
  // `more_to_come`: the program's thread is likely to bring more work at once.
  virtual void run(bool more_to_come) noexcept = 0;
  // Whether messages wait for streams of the program, or streams for messages: whoever sleeps
  // meanwhile keeps both up.
  virtual bool streams_awaited() const noexcept = 0;
  // How long a thread may sleep that waits for it: zero, not at all; UINT64_MAX, until it is woken.
  virtual std::uint64_t nap_ns() const noexcept = 0;
};

}  // namespace mooncake_mpi
