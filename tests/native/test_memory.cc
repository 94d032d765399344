#include "test_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cuda_device.h"
#include "fake_device.h"
#include "memory/shared_pool.h"

namespace mooncake_mpi::testing {
namespace {

// Where the buffers of the running test lie.
Place send_place = Place::kOrdinary;
Place receive_place = Place::kOrdinary;

// Word by word, since sanitizers make every access slow.
std::vector<std::byte> pattern(std::uint32_t seed, std::size_t bytes) {
  std::vector<std::byte> memory(bytes);
  std::uint64_t state = (std::uint64_t{seed} + 1) * 0x9e3779b97f4a7c15u;
  for (std::size_t at = 0; at < bytes; at += sizeof state) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::memcpy(memory.data() + at, &state, std::min(sizeof state, bytes - at));
  }
  return memory;
}

bool same(Bytes first, Bytes second) {
  return first.size() == second.size() &&
         (first.empty() || std::memcmp(first.data(), second.data(), first.size()) == 0);
}

constexpr std::byte kUntouched{0xa5};

}  // namespace

void place_buffers(Place sends, Place receives) {
  send_place = sends;
  receive_place = receives;
}

TestMemory::TestMemory(std::size_t bytes, Place place) : place_(place) {
  if (place == Place::kDevice) {
    const FakeDevice::Block block = fake_device().allocate(bytes);
    bytes_ = block.bytes;
    address_ = block.address;
    return;
  }
  if (place == Place::kCuda) {
    address_ = allocate_cuda(bytes);
    bytes_ = {cuda_bytes(address_), bytes};
    return;
  }
  address_ =
      place == Place::kShared ? process_pool().allocate(bytes).address : new std::byte[bytes];
  if (address_ == nullptr) std::abort();
  bytes_ = {address_, bytes};
}

TestMemory::~TestMemory() {
  if (bytes_.data() == nullptr) return;
  switch (place_) {
    case Place::kDevice:
      fake_device().free({address_, bytes_});
      return;
    case Place::kCuda:
      free_cuda(address_);
      return;
    case Place::kShared:
      process_pool().free(bytes_.data());
      return;
    case Place::kOrdinary:
      delete[] bytes_.data();
  }
}

Buffer TestMemory::buffer(std::size_t bytes) const {
  MemoryDevice* device = nullptr;
  if (place_ == Place::kDevice) device = &fake_device();
  if (place_ == Place::kCuda) device = &cuda_memory();
  return {.address = address_, .bytes = bytes, .device = device};
}

GuardedBuffer::GuardedBuffer(std::size_t bytes)
    : size_(bytes), memory_(bytes + kGuard, receive_place) {
  std::ranges::fill(memory_.bytes(), kUntouched);
}

Buffer GuardedBuffer::buffer() {
  return memory_.buffer(size_);
}

void GuardedBuffer::expect(std::uint32_t seed, std::size_t bytes) const {
  // The pattern of a longer message begins with that of a shorter one.
  const Bytes all = memory_.bytes();
  EXPECT_TRUE(same(all.first(bytes), pattern(seed, bytes)))
      << "message " << seed << " of " << bytes << " bytes is damaged";
  const std::vector<std::byte> untouched(all.size() - bytes, kUntouched);
  EXPECT_TRUE(same(all.subspan(bytes), untouched)) << "bytes behind the message were written";
}

MessageBytes::MessageBytes(std::uint32_t seed, std::size_t bytes) : memory_(bytes, send_place) {
  std::ranges::copy(pattern(seed, bytes), memory_.bytes().begin());
}

Buffer MessageBytes::buffer() {
  return memory_.buffer(memory_.bytes().size());
}

}  // namespace mooncake_mpi::testing
