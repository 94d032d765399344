#include "memory/cuda/stream_end.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/clock.h"
#include "memory/cuda/copy_queue.h"

namespace mooncake_mpi::cuda {
namespace {

constexpr std::uint64_t kCopiedAtOnce = 64 << 10;
// What needs no pinned memory as a rule does without from that size on.
constexpr std::uint64_t kMayBeLate = 1 << 20;
// What a stream takes over has it before: behind its wait the program may hold the driver. Above,
// only if it is there already.
constexpr std::uint64_t kLargestPinnedAhead = 64 << 20;
// Until a driver that keeps who asks for pinned memory, perhaps because of the wait itself, is
// given up.
constexpr std::uint64_t kLongestPinningNs = 20'000'000'000;
// Up to so many bytes one block of a kernel waits. A sender's has nothing to copy most of the time,
// and its stream goes on sooner; but it stays on the device for as long as the transfer takes.
constexpr std::uint64_t kKernelReceives = 64 << 10;
constexpr std::uint64_t kKernelSends = 16 << 20;

cuda_driver::DeviceAddress address_of(const std::byte* memory) noexcept {
  return reinterpret_cast<cuda_driver::DeviceAddress>(memory);
}

}  // namespace

// By a thread that may call the driver. A stream that waits may be what the driver waits for: so it
// is only for those whose bytes go another way as a rule.
bool Turn::get_memory(CopyQueue& queue) noexcept {
  if (memory != nullptr) return true;
  try {
    if (late == nullptr) {
      auto made = std::make_shared<Late>();
      made->until_ns = now_ns() + kLongestPinningNs;
      queue.defer([made, from = blocks, on = device, size = bytes] {
        auto taken = from->take(on, size);
        if (taken) made->block = std::move(taken).value();
        made->done.store(true, std::memory_order_release);
      });
      late = std::move(made);
    }
    const bool is_there = late->done.load(std::memory_order_acquire);
    if (!is_there && now_ns() < late->until_ns) return false;
    if (!is_there || late->block == nullptr) {  // the message fails, and the stream goes on
      substitute = std::make_shared<std::byte[]>(bytes);
      memory = substitute.get();
      return true;
    }
    late->block->used_until(work->end());
    block = late->block;
    memory = block->memory();
    return true;
  } catch (const std::bad_alloc&) {  // later
    return false;
  }
}

std::span<const std::byte> StreamSource::at(std::uint64_t offset, std::uint64_t most) noexcept {
  if (!turn_.has_come()) return {};
  if (StreamWork* work = turn_.work.get(); work != nullptr) {
    refused_ |= work->refused();
    if (refused_ || !work->claimed() || !turn_.get_memory(queue_)) return {};
    if (turn_.is_lost()) return {};
    if (!ordered_) {
      constexpr bool kHeard = true;
      ordered_ = work->order(
          {.to = address_of(turn_.memory), .from = turn_.array, .bytes = turn_.bytes}, kHeard);
      refused_ = !ordered_;
    }
    if (refused_ || !work->done()) return {};
  }
  return {turn_.memory + offset, std::min(most, turn_.bytes - offset)};
}

bool StreamSource::failed() const noexcept {
  if (refused_ || turn_.is_lost()) return true;
  const bool has_come = turn_.has_come() && (turn_.work == nullptr || turn_.work->done());
  return !has_come && queue_.has_failed(turn_.device);
}

bool StreamSink::has_failed() const noexcept {
  return !turn_.has_come() && queue_.has_failed(turn_.device);
}

// Of a device that has failed the memory is nobody's, and a message that ends there ends.
std::span<std::byte> StreamSink::room(std::uint64_t offset, std::uint64_t most) noexcept {
  if (!turn_.has_come() && !has_failed()) return {};
  if (turn_.work != nullptr && !turn_.get_memory(queue_)) return {};
  return {turn_.memory + offset, std::min(most, turn_.bytes - offset)};
}

bool StreamSink::replace(Sink& other) noexcept {
  const auto& plain = static_cast<const DeviceSink&>(other);
  if (!plain.is_untouched()) return false;
  turn_.begins = end_of_.ready = plain.end().ready;
  return true;
}

Landing StreamSink::landed() noexcept {
  if (has_failed() || turn_.is_lost()) return Landing::kFailed;
  if (turn_.work != nullptr && end_ != 0) {
    const std::byte* given = end_ <= kInlineBytes ? turn_.memory : nullptr;
    const bool counts = turn_.work->order(
        {.to = turn_.array, .from = address_of(turn_.memory), .bytes = end_, .given = given});
    if (!counts) return Landing::kFailed;  // a mover began with it, and did not bring it to an end
  }
  return Landing::kDone;
}

Result<bool> StreamEnd::begin(Way way, const Buffer& buffer,
                              const cuda_driver::Allocation& allocation, int device,
                              cuda_driver::StreamHandle stream, Blocks& blocks, Then then) {
  way_ = way;
  on_device_ = buffer.device != nullptr;
  turn_.array = address_of(buffer.address);
  turn_.allocation = allocation;
  stream_ = stream;
  turn_.bytes = buffer.bytes;
  turn_.device = device;
  turn_.memory = buffer.address;
  // What is sent of a small array is copied out at once, and its stream need not wait.
  if (then != Then::kGoesOn && on_device_ && allocation.device == device && buffer.bytes != 0 &&
      (way == Way::kReceive || buffer.bytes > kCopiedAtOnce)) {
    const std::uint64_t most = then == Then::kTakesOver ? 0  // it may be a long wait
                               : way == Way::kSend      ? kKernelSends
                                                        : kKernelReceives;
    const auto wait =
        buffer.bytes <= most ? StreamWork::Wait::kByKernel : StreamWork::Wait::kByStream;
    auto work = works_.take(device, buffer.bytes, wait);
    if (!work) return work.failure();
    turn_.work = std::move(work).value();
  }
  turn_.engines_first = then == Then::kTakesOver;
  if (turn_.engines_first && turn_.work == nullptr) return true;
  if (on_device_ && buffer.bytes != 0) {
    turn_.blocks = &blocks;
    turn_.memory = nullptr;
    turn_.block = blocks.take_free(buffer.bytes);
    if (turn_.block == nullptr && turn_.engines_first && buffer.bytes > kLargestPinnedAhead) {
      turn_.work = nullptr;
      return true;
    }
    const bool likely = then == Then::kWaitsForDevice;
    const bool later = turn_.work != nullptr && likely && buffer.bytes >= kMayBeLate;
    if (turn_.block == nullptr && !later) {
      auto block = blocks.take(device, buffer.bytes);
      if (!block) return block.failure();
      turn_.block = std::move(block).value();
    }
    if (turn_.block != nullptr) turn_.memory = turn_.block->memory();
    if (turn_.work == nullptr) {
      auto copied =
          driver_.copy_in(device, stream, address_of(turn_.memory), turn_.array, turn_.bytes);
      if (!copied) return copied.failure();
    }
  }
  if (way == Way::kReceive && turn_.work != nullptr) return true;
  const bool busy = turn_.block != nullptr && turn_.work == nullptr;  // with the copy
  auto moment = moments_.take(device, stream, Moments::Heard::kByMessages, busy);
  if (!moment) return moment.failure();
  turn_.begins = std::make_shared<const Moment>(std::move(moment).value());
  if (turn_.block != nullptr) turn_.block->used_until(turn_.begins);
  return true;
}

Result<Gate> StreamEnd::wait(int device, cuda_driver::StreamHandle stream) {
  return gates_.close(device, stream);
}

Result<bool> StreamEnd::wait_with_work(cuda_driver::StreamHandle stream) {
  auto end = turn_.work->end();
  if (turn_.block != nullptr) turn_.block->used_until(std::move(end));
  return turn_.work->claim(stream);
}

Result<bool> StreamEnd::land(int device, cuda_driver::StreamHandle stream) {
  if (turn_.block == nullptr || way_ == Way::kSend || turn_.work != nullptr) return true;
  const Moment& begins = *turn_.begins;
  if (stream != stream_ && !begins.reached()) {
    auto waits = driver_.wait_in(device, stream, *begins.word(), begins.value());
    if (!waits) return waits;
  }
  auto copied = driver_.copy_in(device, stream, turn_.array, address_of(turn_.memory), turn_.bytes);
  if (!copied) return copied.failure();
  constexpr bool kBusy = true;
  auto moment = moments_.take(device, stream, Moments::Heard::kByNobody, kBusy);
  if (!moment) return moment.failure();
  landed_ = std::make_shared<const Moment>(std::move(moment).value());
  turn_.block->used_until(landed_);
  return true;
}

}  // namespace mooncake_mpi::cuda
