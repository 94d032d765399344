// What tests ask of the fake driver. Takes the state's lock alone, so that it works while a driver
// call blocks.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "drivers/cuda/fake/memory.h"
#include "drivers/cuda/fake/queue.h"

using namespace mooncake_mpi::cuda_driver;
using namespace mooncake_mpi::cuda_driver::fake;

namespace {

Fault& fault_of(const char* function) {
  const std::size_t number = function_number(function);
  if (number == kFunctions) {
    std::fprintf(stderr, "fake libcuda: no function is called %s\n", function);
    std::abort();
  }
  return driver().faults[number];
}

std::shared_ptr<Stream> stream_at(void* handle) {
  // Of the current device; a thread without one means that of the process.
  const ContextStack& stack = context_stack();
  Device* device = stack.empty() ? nullptr : driver().device_of(stack.top());
  for (const auto& other : driver().devices) {
    if (device == nullptr && other->retained > 0) device = other.get();
  }
  return find_stream(driver(), device, static_cast<CUstream>(handle));
}

std::size_t count_blocks(auto wanted) {
  const Lock lock(driver().state);
  return static_cast<std::size_t>(std::ranges::count_if(
      driver().blocks, [&](const auto& item) { return wanted(item.second->kind); }));
}

}  // namespace

void fake_cuda_fail(const char* function, int error, int skip, int times) {
  const Lock lock(driver().state);
  Fault& fault = fault_of(function);
  fault.error = static_cast<CUresult>(error);
  fault.skip = skip;
  fault.times = times;
}

void fake_cuda_delay(const char* function, unsigned microseconds) {
  const Lock lock(driver().state);
  fault_of(function).delay_us = microseconds;
}

long fake_cuda_calls(const char* function) {
  const std::size_t number = function_number(function);
  if (number == kFunctions) return -1;
  const Lock lock(driver().state);
  return driver().faults[number].calls;
}

long fake_cuda_all_calls() {
  const Lock lock(driver().state);
  long calls = 0;
  for (const Fault& fault : driver().faults)
    calls += fault.calls;
  return calls;
}

int fake_cuda_in_call() {
  return driver().in_call;
}

void fake_cuda_break(int error) {
  const Lock lock(driver().state);
  break_down(driver(), static_cast<CUresult>(error));
}

void fake_cuda_reset() {
  const Lock lock(driver().state);
  driver().faults.fill({});
  driver().broken = CUDA_SUCCESS;
  driver().captures.clear();
  for (const auto& device : driver().devices) {
    if (device->legacy != nullptr) device->legacy->held = device->legacy->capturing = false;
    for (const auto& stream : device->streams) {
      stream->held = stream->capturing = false;
      stream->capture.reset();
    }
  }
  driver().work.notify_one();
}

void fake_cuda_open_own(int on) {
  const Lock lock(driver().state);
  driver().opens_own = on != 0;
}

unsigned fake_cuda_contexts() {
  const Lock lock(driver().state);
  unsigned active = 0;
  for (const auto& device : driver().devices) {
    if (device->retained > 0) active |= 1u << device->ordinal;
  }
  return active;
}

std::size_t fake_cuda_allocations() {
  return count_blocks(
      [](Block::Kind kind) { return kind == Block::Kind::kDevice || kind == Block::Kind::kPool; });
}

std::size_t fake_cuda_pinned() {
  return count_blocks([](Block::Kind kind) { return kind == Block::Kind::kPinned; });
}

std::size_t fake_cuda_imports() {
  return count_blocks([](Block::Kind kind) { return kind == Block::Kind::kImported; });
}

std::size_t fake_cuda_streams() {
  const Lock lock(driver().state);
  return driver().streams.size();
}

std::size_t fake_cuda_events() {
  const Lock lock(driver().state);
  return driver().events.size();
}

void* fake_cuda_bytes(std::uint64_t address) {
  const Lock lock(driver().state);
  const auto block = block_at(driver(), address);
  return block == nullptr ? nullptr : block->data + (address - block->base);
}

void fake_cuda_operation_time(unsigned microseconds) {
  const Lock lock(driver().state);
  driver().operation_us = microseconds;
}

void fake_cuda_hold(void* stream, int on) {
  const Lock lock(driver().state);
  if (const auto found = stream_at(stream)) {
    found->held = on != 0;
    found->let_go = 0;
  }
  driver().work.notify_one();
}

void fake_cuda_let_go(void* stream, unsigned n) {
  const Lock lock(driver().state);
  if (const auto found = stream_at(stream)) found->let_go += n;
  driver().work.notify_one();
}

long fake_cuda_pending(void* stream) {
  const Lock lock(driver().state);
  const auto found = stream_at(stream);
  return found == nullptr ? -1 : static_cast<long>(found->pending.size());
}

int fake_cuda_channel(void* stream) {
  const Lock lock(driver().state);
  const auto found = stream_at(stream);
  return found == nullptr ? -1 : static_cast<int>(found->channel);
}

void fake_cuda_set_capturing(void* stream, int on) {
  const Lock lock(driver().state);
  if (const auto found = stream_at(stream)) found->capturing = on != 0;
}
