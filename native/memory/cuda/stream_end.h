// One end of a message in the order of a stream of the program's: what the stream was given before
// is done before the message is sent or received, and what it is given after finish() comes after
// it, while the host goes on.
//
// An array of a GPU is copied by the stream itself, and all of that is given to the stream before
// it waits: once a stream waits nothing that is given to any stream of this process is sure to run.
// Where the device has the library's kernels a stream that waits in the call is told what to copy
// when that is known (StreamWork): between pinned memory and the array, or from the peer's array.
// Else it is pinned memory that is sent and received into, and a receive copies the array out
// first, so that what a shorter message leaves of it is there when all of it is copied in again.
// Memory of the host is where the message goes to and comes from.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "memory/buffer.h"
#include "memory/cuda/blocks.h"
#include "memory/cuda/device_end.h"
#include "memory/cuda/gate.h"
#include "memory/cuda/moment.h"
#include "memory/cuda/stream_work.h"
#include "memory/sink.h"
#include "memory/source.h"

namespace mooncake_mpi::cuda {

class CopyQueue;

// What the two have in common: memory that the host may use from a moment on.
struct Turn {
  std::byte* memory = nullptr;
  std::uint64_t bytes = 0;
  int device = -1;
  std::shared_ptr<const Moment> begins;  // nullptr: at once
  std::shared_ptr<Block> block;          // keeps the memory
  // What the stream does when it is told to, if anything, and the array.
  std::shared_ptr<StreamWork> work;
  cuda_driver::Allocation allocation;
  cuda_driver::DeviceAddress array = 0;
  bool has_come() const noexcept { return begins == nullptr || begins->reached(); }

  // Of one with work that began without pinned memory: whether it has it now. Asks for it.
  struct Late {
    std::atomic<bool> done{false};
    std::uint64_t until_ns = 0;
    std::shared_ptr<Block> block;  // nullptr, when it is done: there is none
  };
  bool get_memory(CopyQueue& queue) noexcept;
  bool is_lost() const noexcept { return substitute != nullptr; }
  // A copy engine is to bring the message, if one may: the stream began to wait when it was posted.
  bool engines_first = false;
  Blocks* blocks = nullptr;  // where it comes from
  std::shared_ptr<Late> late;
  std::shared_ptr<std::byte[]> substitute;  // what comes has to go somewhere
};

class StreamSource final : public Source {
 public:
  StreamSource(Turn turn, CopyQueue& queue) noexcept
      : turn_(std::move(turn)),
        end_{turn_.allocation, turn_.array, turn_.bytes, turn_.begins},
        queue_(queue) {}
  const Turn& turn() const noexcept { return turn_; }
  // The array.
  const DeviceEnd& end() const noexcept { return end_; }
  std::uint64_t bytes() const noexcept override { return turn_.bytes; }
  std::span<const std::byte> at(std::uint64_t offset, std::uint64_t most) noexcept override;
  bool ready() noexcept override { return turn_.has_come(); }
  bool failed() const noexcept override;

 private:
  Turn turn_;
  DeviceEnd end_;
  CopyQueue& queue_;
  bool ordered_ = false;  // the way into pinned memory
  bool refused_ = false;  // the stream does something else, or nothing
};

class StreamSink final : public Sink {
 public:
  StreamSink(Turn turn, CopyQueue& queue) noexcept
      : turn_(std::move(turn)),
        end_of_{turn_.allocation, turn_.array, turn_.bytes, turn_.begins},
        queue_(queue) {}
  const Turn& turn() const noexcept { return turn_; }
  // The array.
  const DeviceEnd& end() const noexcept { return end_of_; }
  // That of a receive that the stream has come to wait for.
  bool replace(Sink& other) noexcept override;
  std::span<std::byte> room(std::uint64_t offset, std::uint64_t most) noexcept override;
  void put(std::uint64_t offset, std::uint64_t bytes) noexcept override { end_ = offset + bytes; }
  Landing landed() noexcept override;

 private:
  bool has_failed() const noexcept;
  Turn turn_;
  DeviceEnd end_of_;
  CopyQueue& queue_;
  std::uint64_t end_ = 0;  // of what was put
};

class StreamEnd {
 public:
  enum class Way : std::uint8_t { kSend, kReceive };

  StreamEnd(cuda_driver::Driver& driver, Gates& gates, Moments& moments,
            StreamWorks& works) noexcept
      : driver_(driver), gates_(gates), moments_(moments), works_(works) {}

  // How the call goes on. kWaits: the stream is to wait for the end, too, by a call that follows at
  // once; kWaitsForDevice: and the bytes are likely to go from one device to the other, without
  // pinned memory. kTakesOver: the same, of a receive that is posted already; without work it does
  // not.
  enum class Then : std::uint8_t { kGoesOn, kWaits, kWaitsForDevice, kTakesOver };
  // Gives `stream` what comes before the message; once.
  Result<bool> begin(Way way, const Buffer& buffer, const cuda_driver::Allocation& allocation,
                     int device, cuda_driver::StreamHandle stream, Blocks& blocks, Then then);
  const Turn& turn() const noexcept { return turn_; }
  cuda_driver::StreamHandle stream() const noexcept { return stream_; }
  int device() const noexcept { return turn_.device; }

  // Whether a stream that goes on has to wait for the end of the message: of an array that is sent
  // there is a copy, or it has no bytes.
  bool is_awaited() const noexcept {
    const bool copied = on_device_ || turn_.bytes == 0;
    return way_ == Way::kReceive || !copied || turn_.work != nullptr;
  }
  // What the stream of begin() waits with, instead of a gate; nullptr: a gate it is.
  const std::shared_ptr<StreamWork>& work() const noexcept { return turn_.work; }
  // Between the two the caller sees to it that the gate is opened when the message has ended.
  Result<Gate> wait(int device, cuda_driver::StreamHandle stream);
  // With work, which has to be told of the end.
  Result<bool> wait_with_work(cuda_driver::StreamHandle stream);
  // What was received is copied in; by another stream than that of begin() not before that one has
  // come to the message, which one that has failed may not have waited for.
  Result<bool> land(int device, cuda_driver::StreamHandle stream);
  // When that is done, of the latest; nullptr: it is.
  std::shared_ptr<const Moment> landed() const noexcept { return landed_; }

 private:
  cuda_driver::Driver& driver_;
  Gates& gates_;
  Moments& moments_;
  StreamWorks& works_;
  Way way_ = Way::kSend;
  bool on_device_ = false;
  cuda_driver::StreamHandle stream_ = 0;
  Turn turn_;
  std::shared_ptr<const Moment> landed_;
};

}  // namespace mooncake_mpi::cuda
