// What the files of the mover share.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "memory/cuda/gpu_memory.h"
#include "memory/memory_device.h"
#include "transport/cuda_ipc/mappings.h"

namespace mooncake_mpi::cuda_ipc {

template <class Layout>
std::span<const std::byte> bytes_of(const Layout& layout) noexcept {
  return std::as_bytes(std::span(&layout, 1));
}

inline constexpr std::uint64_t kNobody = UINT64_MAX;
// How long a stream that waits waits for the peer's memory to be opened.
inline constexpr std::uint64_t kLongestOpeningNs = 500'000'000;

// As push_back() does it: not for one at a time.
template <class T>
void make_room(std::vector<T>& vector, std::size_t count) {
  if (vector.capacity() < count) vector.reserve(2 * count);
}

inline cuda::GpuMemory* memory_of(const MemoryDevice* device) noexcept {
  cuda::GpuMemory* memory = cuda::known_gpu_memory();
  return device != nullptr && device == memory ? memory : nullptr;
}

// Whether its stream waits with work, which the mover may tell what to do.
inline bool waits_with_work(const MemoryDevice* device) noexcept {
  const cuda::GpuMemory* memory = cuda::known_gpu_memory();
  return memory != nullptr && memory->waits_with_work(device);
}

// The peer's memory stays open for good: a copy is at it that nobody waits for.
inline void keep_open(std::shared_ptr<Mapping> mapping) noexcept {
  static auto& lost = *new std::deque<std::shared_ptr<Mapping>>;
  try {
    lost.push_back(std::move(mapping));
  } catch (const std::bad_alloc&) {  // it is closed, and the copy fails
  }
}

// A copy that cannot be waited for goes on some time, and the peer's memory stays open for good.
inline void give_up(cuda::Copy& copy, std::shared_ptr<Mapping> mapping) noexcept {
  if (cuda::known_gpu_memory()->queue().drop(copy)) return;
  keep_open(std::move(mapping));
}

// The same of a copy that a stream of the program's was told to make: it may come to it any time,
// and what the program does with its own memory comes after it in that stream.
inline void give_up(const cuda::StreamWork& work, std::shared_ptr<Mapping> mapping) noexcept {
  if (!work.done()) keep_open(std::move(mapping));
}

}  // namespace mooncake_mpi::cuda_ipc
