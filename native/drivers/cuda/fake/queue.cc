// Streams of the fake driver, and what they were given.
#include "drivers/cuda/fake/queue.h"

#include <algorithm>

#include "drivers/cuda/fake/hardware.h"

namespace mooncake_mpi::cuda_driver::fake {

std::shared_ptr<Stream> make_stream(Driver& driver, Device& device, bool blocking) {
  auto stream = std::make_shared<Stream>();
  stream->handle = driver.new_handle<CUstream>();
  stream->device = &device;
  stream->blocking = blocking;
  stream->channel = device.next_channel;
  device.next_channel = (device.next_channel + 1) % (device.channels.size() - 1);
  device.streams.push_back(stream);
  return stream;
}

std::shared_ptr<Stream> find_stream(Driver& driver, Device* device, CUstream handle) {
  if (handle == nullptr || handle == kLegacyStream) {
    if (device == nullptr) return nullptr;
    if (device->legacy == nullptr) {
      auto stream = std::make_shared<Stream>();
      stream->handle = kLegacyStream;
      stream->device = device;
      stream->channel = device->channels.size() - 1;
      device->legacy = std::move(stream);
    }
    return device->legacy;
  }
  if (handle == kPerThreadStream) {
    if (device == nullptr) return nullptr;
    auto& stream = device->per_thread[std::this_thread::get_id()];
    if (stream == nullptr) stream = make_stream(driver, *device, true);
    return stream;
  }
  const auto found = driver.streams.find(handle);
  return found == driver.streams.end() ? nullptr : found->second;
}

void forget_finished(Device& device) {
  std::erase_if(device.streams,
                [](const auto& stream) { return stream->destroyed && stream->pending.empty(); });
}

std::shared_ptr<Operation> submit(Driver& driver, const std::shared_ptr<Stream>& stream,
                                  Operation operation) {
  if (captures(*stream)) {
    auto part = std::make_shared<Operation>(operation);
    part->finished = true;
    if (stream->capture != nullptr) stream->capture->graph->operations.push_back(operation);
    return part;
  }
  auto queued = std::make_shared<Operation>(std::move(operation));
  queued->stream = stream;
  queued->number = ++driver.next_operation;
  stream->pending.push_back(queued->number);
  stream->last = queued;
  stream->device->channels[stream->channel].queue.push_back(queued);
  start_hardware(driver);
  driver.work.notify_one();
  return queued;
}

std::vector<std::shared_ptr<Operation>> unfinished(const Stream& stream) {
  std::vector<std::shared_ptr<Operation>> found;
  const auto add = [&](const Stream& other) {
    if (other.last != nullptr && !other.last->finished) found.push_back(other.last);
  };
  add(stream);
  if (stream.handle == kLegacyStream) {
    for (const auto& other : stream.device->streams) {
      if (other->blocking) add(*other);
    }
  }
  return found;
}

bool idle(const Stream& stream) {
  return unfinished(stream).empty();
}

bool something_waits(const Driver& driver) {
  for (const auto& device : driver.devices) {
    for (const Channel& channel : device->channels) {
      for (const auto& operation : channel.queue) {
        if (operation->waits_for_memory && (operation->takes_time ? operation->not_yet : true)) {
          return true;
        }
      }
    }
  }
  return false;
}

void drop(Driver& driver, Device& device) {
  for (Channel& channel : device.channels) {
    for (const auto& operation : channel.queue) {
      operation->finished = true;
      operation->stream->pending.clear();
      operation->stream->last.reset();
      // What runs now still needs what it runs.
      if (!operation->running) operation->run = nullptr;
    }
    channel.queue.clear();
  }
  driver.done.notify_all();
  driver.work.notify_one();
}

void break_down(Driver& driver, CUresult error) {
  if (driver.broken == CUDA_SUCCESS) driver.broken = error;
  for (const auto& device : driver.devices)
    drop(driver, *device);
}

}  // namespace mooncake_mpi::cuda_driver::fake
