#include "memory/cuda/stream_end.h"

#include <algorithm>

#include "memory/cuda/copy_queue.h"

namespace mooncake_mpi::cuda {
namespace {

cuda_driver::DeviceAddress address_of(const std::byte* memory) noexcept {
  return reinterpret_cast<cuda_driver::DeviceAddress>(memory);
}

}  // namespace

std::span<const std::byte> StreamSource::at(std::uint64_t offset, std::uint64_t most) noexcept {
  if (!turn_.has_come()) return {};
  return {turn_.memory + offset, std::min(most, turn_.bytes - offset)};
}

bool StreamSource::failed() const noexcept {
  return !turn_.has_come() && queue_.has_failed(turn_.device);
}

bool StreamSink::has_failed() const noexcept {
  return !turn_.has_come() && queue_.has_failed(turn_.device);
}

// Of a device that has failed the memory is nobody's, and a message that ends there ends.
std::span<std::byte> StreamSink::room(std::uint64_t offset, std::uint64_t most) noexcept {
  if (!turn_.has_come() && !has_failed()) return {};
  return {turn_.memory + offset, std::min(most, turn_.bytes - offset)};
}

Landing StreamSink::landed() noexcept {
  return has_failed() ? Landing::kFailed : Landing::kDone;
}

Result<bool> StreamEnd::begin(Way way, const Buffer& buffer, int device,
                              cuda_driver::StreamHandle stream, Blocks& blocks) {
  way_ = way;
  on_device_ = buffer.device != nullptr;
  array_ = address_of(buffer.address);
  stream_ = stream;
  turn_.bytes = buffer.bytes;
  turn_.device = device;
  turn_.memory = buffer.address;
  if (on_device_ && buffer.bytes != 0) {
    auto block = blocks.take(device, buffer.bytes);
    if (!block) return block.failure();
    turn_.block = block.value();
    turn_.memory = turn_.block->memory();
    auto copied = driver_.copy_in(device, stream, address_of(turn_.memory), array_, turn_.bytes);
    if (!copied) return copied.failure();
  }
  auto moment = moments_.take(device, stream);
  if (!moment) return moment.failure();
  turn_.begins = std::make_shared<const Moment>(std::move(moment).value());
  if (turn_.block != nullptr) turn_.block->used_until(turn_.begins);
  return true;
}

Result<Gate> StreamEnd::wait(int device, cuda_driver::StreamHandle stream) {
  return gates_.close(device, stream);
}

Result<bool> StreamEnd::land(int device, cuda_driver::StreamHandle stream) {
  if (turn_.block == nullptr || way_ == Way::kSend) return true;
  const Moment& begins = *turn_.begins;
  if (stream != stream_ && !begins.reached()) {
    auto waits = driver_.wait_in(device, stream, *begins.word(), begins.value());
    if (!waits) return waits;
  }
  auto copied = driver_.copy_in(device, stream, array_, address_of(turn_.memory), turn_.bytes);
  if (!copied) return copied.failure();
  auto moment = moments_.take(device, stream, Moments::Heard::kByNobody);
  if (!moment) return moment.failure();
  landed_ = std::make_shared<const Moment>(std::move(moment).value());
  turn_.block->used_until(landed_);
  return true;
}

}  // namespace mooncake_mpi::cuda
