// This library's own kernels as functions of the host: what is in memory/cuda/kernels/kernels.cu.
#include <atomic>
#include <chrono>
#include <cstring>

#include "drivers/cuda/fake/driver.h"
#include "drivers/cuda/fake/fake_cuda.h"
#include "drivers/cuda/fake/stream_calls.h"

namespace mooncake_mpi::cuda_driver::fake {
namespace {

using Word = std::uint32_t;
constexpr int kWords = 16;  // of a command; every fourth is the turn

// Of a device, or pinned; null of what a device cannot reach.
std::byte* bytes_at(std::uint64_t address) {
  return static_cast<std::byte*>(fake_cuda_bytes(address));
}

template <class T>
T parameter(const fake_cuda_launch* launch, int i) {
  T value;
  std::memcpy(&value, launch->parameters[i], sizeof value);
  return value;
}

std::uint64_t wide(Word low, Word high) {
  return std::uint64_t{high} << 32 | low;
}

std::atomic_ref<Word> word_at(std::uint64_t address, int i = 0) {
  return std::atomic_ref(reinterpret_cast<Word*>(bytes_at(address))[i]);
}

int carry_out(std::uint64_t address) {
  Word words[kWords];
  for (int i = 0; i < kWords; ++i)
    words[i] = word_at(address, i).load(std::memory_order_acquire);
  const std::uint64_t from = wide(words[0], words[1]);
  const std::uint64_t to = wide(words[4], words[5]);
  const std::uint64_t bytes = wide(words[2], words[6]);
  if (bytes == 0) return FAKE_CUDA_DONE;
  if (bytes_at(to) == nullptr || (from != 0 && bytes_at(from) == nullptr)) return FAKE_CUDA_FAULT;
  if (from != 0) {
    std::memmove(bytes_at(to), bytes_at(from), bytes);
  } else {
    for (std::uint64_t i = 0; i < bytes; ++i) {
      const auto* given = reinterpret_cast<const std::byte*>(words + 8 + 4 * (i / 12));
      bytes_at(to)[i] = given[i % 12];
    }
  }
  return FAKE_CUDA_DONE;
}

// Where the device's own memory is not what it seems there is a fault, as there would be.
int copy(const fake_cuda_launch* launch, void*) {
  const auto command = parameter<std::uint64_t>(launch, 0);
  const auto published = parameter<std::uint64_t>(launch, 1);
  if (fake_cuda_bytes(published) == nullptr) return FAKE_CUDA_FAULT;
  if (word_at(command, 3).load() != parameter<Word>(launch, 2)) return FAKE_CUDA_FAULT;
  const int outcome = carry_out(command);
  word_at(parameter<std::uint64_t>(launch, 3)).store(parameter<Word>(launch, 2));
  return outcome;
}

int take(const fake_cuda_launch* launch, void*) {
  const auto command = parameter<std::uint64_t>(launch, 0);
  const auto turn = parameter<Word>(launch, 1);
  for (int i = 3; i < kWords; i += 4) {
    if (word_at(command, i).load(std::memory_order_acquire) != turn) return FAKE_CUDA_NOT_YET;
  }
  const int outcome = carry_out(command);
  word_at(parameter<std::uint64_t>(launch, 2)).store(turn, std::memory_order_release);
  return outcome;
}

// Called again and again: what it knows is in the launch's own copies of its parameters.
int stay(const fake_cuda_launch* launch, void*) {
  const auto commands = parameter<std::uint64_t>(launch, 0);
  const auto slots = parameter<Word>(launch, 1);
  auto turn = parameter<Word>(launch, 2);
  auto idle_until = parameter<std::uint64_t>(launch, 5);
  const auto now = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
          .count());
  constexpr std::uint64_t kLongestIdle = 1'000'000'000;
  if (idle_until < kLongestIdle) {  // the first time
    idle_until += now;
    std::memcpy(launch->parameters[5], &idle_until, sizeof idle_until);
  }
  const std::uint64_t command = commands + std::uint64_t{turn % slots} * kWords * sizeof(Word);
  bool is_there = true;
  for (int i = 3; i < kWords; i += 4)
    is_there &= word_at(command, i).load(std::memory_order_acquire) == turn;
  if (is_there) {
    carry_out(command);
    word_at(parameter<std::uint64_t>(launch, 3)).store(turn, std::memory_order_release);
    ++turn;
    std::memcpy(launch->parameters[2], &turn, sizeof turn);
    const std::uint64_t longer = now + 1'000'000;
    std::memcpy(launch->parameters[5], &longer, sizeof longer);
    return FAKE_CUDA_NOT_YET;
  }
  if (now < idle_until) return FAKE_CUDA_NOT_YET;
  const auto left = parameter<std::uint64_t>(launch, 4);
  word_at(left).store(turn);
  word_at(left, 1).store(1, std::memory_order_release);
  return FAKE_CUDA_DONE;
}

}  // namespace

void define_library_kernels() {
  static constexpr std::size_t kCopy[] = {8, 8, 4, 8};
  static constexpr std::size_t kTake[] = {8, 4, 8};
  static constexpr std::size_t kStay[] = {8, 4, 4, 8, 8, 8};
  fake_cuda_define_kernel("mooncake_mpi_stay", stay, nullptr, kStay, 6);
  fake_cuda_define_kernel("mooncake_mpi_copy", copy, nullptr, kCopy, 4);
  fake_cuda_define_kernel("mooncake_mpi_take", take, nullptr, kTake, 3);
}

}  // namespace mooncake_mpi::cuda_driver::fake
