#include "memory/cuda/kernels/kernels.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/clock.h"
#include "memory/cuda/gate.h"

namespace mooncake_mpi::cuda {
namespace {

// Enough blocks to fill NVLink with what they pull, and few beside what the program computes.
constexpr unsigned kBlocks = 24;
constexpr unsigned kThreads = 512;
constexpr unsigned kWarp = 32;
constexpr unsigned kStayingThreads = 256;
constexpr std::uint64_t kOneBlock = 64 << 10;
constexpr std::uint64_t kLongestClearingNs = 1'000'000'000;

std::uint32_t low(std::uint64_t number) noexcept {
  return static_cast<std::uint32_t>(number);
}
std::uint32_t high(std::uint64_t number) noexcept {
  return static_cast<std::uint32_t>(number >> 32);
}

cuda_driver::DeviceAddress address_of(const void* pinned) noexcept {
  return reinterpret_cast<cuda_driver::DeviceAddress>(pinned);
}

}  // namespace

void write(Command& command, const Order& order, std::uint32_t turn) noexcept {
  auto& vectors = command.vectors;
  const std::uint64_t from = order.given == nullptr ? order.from : 0;
  vectors[0].words = {low(from), high(from), low(order.bytes)};
  vectors[1].words = {low(order.to), high(order.to), high(order.bytes)};
  if (order.given != nullptr) {
    std::array<std::byte, kInlineBytes> bytes{};
    std::copy_n(order.given, std::min(order.bytes, kInlineBytes), bytes.begin());
    std::memcpy(vectors[2].words.data(), bytes.data(), kInlineBytes / 2);
    std::memcpy(vectors[3].words.data(), bytes.data() + kInlineBytes / 2, kInlineBytes / 2);
  }
  for (auto& vector : vectors)
    vector.turn.store(turn, std::memory_order_release);
}

bool Kernels::are_on(int device) noexcept {
  try {
    const std::scoped_lock lock(mutex_);
    const auto known = loaded_.find(device);
    if (known != loaded_.end()) return !known->second.refused;
    if (!gates_.enter_driver()) return false;  // the next time
    auto loaded = load(device);
    gates_.leave_driver();
    auto& kept = loaded_[device];
    if (loaded) kept = loaded.value();
    kept.refused = !loaded;
    return !kept.refused;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

// A kernel gets to the device when it is launched first: with a command that says nothing.
Result<Kernels::Loaded> Kernels::load(int device) {
  auto image = driver_.load_image(device, kKernels);
  if (!image) return image.failure();
  auto copying = driver_.function_of(device, image.value(), "mooncake_mpi_copy");
  if (!copying) return copying.failure();
  auto taking = driver_.function_of(device, image.value(), "mooncake_mpi_take");
  if (!taking) return taking.failure();
  auto staying = driver_.function_of(device, image.value(), "mooncake_mpi_stay");
  if (!staying) return staying.failure();
  auto memory = driver_.allocate_pinned(device, kPublishedBytes);
  if (!memory) return memory.failure();
  auto stream = driver_.make_stream(device);
  if (!stream) return stream.failure();
  streams_.push_back(stream.value());
  const auto handle = reinterpret_cast<cuda_driver::StreamHandle>(stream.value()->handle);
  cuda_driver::DeviceAddress command = address_of(memory.value());
  cuda_driver::DeviceAddress done = command + sizeof(Command);
  auto own = driver_.allocate_device(device, kPublishedBytes);
  if (!own) return own.failure();
  cuda_driver::DeviceAddress published = address_of(own.value());
  std::uint32_t turn = 0;
  void* copies[] = {&command, &published, &turn, &done};
  auto launched = clear(*stream.value(), published, memory.value(), kPublishedBytes);
  if (!launched) return launched.failure();
  launched = driver_.launch_in(device, handle, copying.value(), 1, kWarp, copies);
  if (!launched) return launched.failure();
  void* takes[] = {&command, &turn, &done};
  launched = driver_.launch_in(device, handle, taking.value(), 1, kWarp, takes);
  if (!launched) return launched.failure();
  // One that leaves at once.
  std::uint32_t slots = 1;
  std::uint32_t next = 1;
  std::uint64_t idle_ns = 0;
  cuda_driver::DeviceAddress left = done + sizeof(turn);
  void* stays[] = {&command, &slots, &next, &done, &left, &idle_ns};
  launched = driver_.launch_in(device, handle, staying.value(), 1, kWarp, stays);
  if (!launched) return launched.failure();
  return Loaded{copying.value(), taking.value(), staying.value(), stream.value(), false};
}

Result<bool> Kernels::clear(int device, cuda_driver::DeviceAddress memory, const std::byte* zeros,
                            std::size_t bytes) {
  const Loaded* loaded = find(device);
  if (loaded == nullptr) return Failure{Error::kOther, "the kernels are not on that device"};
  return clear(*loaded->stream, memory, zeros, bytes);
}

Result<bool> Kernels::clear(cuda_driver::Stream& stream, cuda_driver::DeviceAddress memory,
                            const std::byte* zeros, std::size_t bytes) {
  auto copied = driver_.copy(stream, memory, address_of(zeros), bytes);
  if (copied) copied = driver_.close_batch(stream);
  if (!copied) return copied;
  const std::uint64_t began_ns = now_ns();
  while (stream.word->load(std::memory_order_acquire) != stream.submitted) {
    if (now_ns() - began_ns > kLongestClearingNs)
      return Failure{Error::kOther, "the device is busy"};
    cpu_relax();
  }
  return true;
}

Kernels::Loaded* Kernels::find(int device) {
  const std::scoped_lock lock(mutex_);
  const auto known = loaded_.find(device);
  return known == loaded_.end() || known->second.refused ? nullptr : &known->second;
}

Result<bool> Kernels::copy(int device, cuda_driver::StreamHandle stream, const Command& command,
                           cuda_driver::DeviceAddress published, std::uint32_t turn,
                           const std::atomic<std::uint32_t>& done, std::uint64_t most_bytes) {
  const Loaded* loaded = find(device);
  if (loaded == nullptr) return Failure{Error::kOther, "the kernels are not on that device"};
  cuda_driver::DeviceAddress where = address_of(&command);
  cuda_driver::DeviceAddress word = address_of(&done);
  void* parameters[] = {&where, &published, &turn, &word};
  const unsigned blocks = most_bytes <= kOneBlock ? 1 : kBlocks;
  return driver_.launch_in(device, stream, loaded->copy, blocks, kThreads, parameters);
}

Result<bool> Kernels::take(int device, cuda_driver::StreamHandle stream, const Command& command,
                           std::uint32_t turn, const std::atomic<std::uint32_t>& done,
                           std::uint64_t most_bytes) {
  const Loaded* loaded = find(device);
  if (loaded == nullptr) return Failure{Error::kOther, "the kernels are not on that device"};
  cuda_driver::DeviceAddress where = address_of(&command);
  cuda_driver::DeviceAddress word = address_of(&done);
  void* parameters[] = {&where, &turn, &word};
  const unsigned threads = most_bytes <= kInlineBytes ? kWarp : kThreads;
  return driver_.launch_in(device, stream, loaded->take, 1, threads, parameters);
}

Result<bool> Kernels::stay(int device, cuda_driver::StreamHandle stream, const Stay& what) {
  const Loaded* loaded = find(device);
  if (loaded == nullptr) return Failure{Error::kOther, "the kernels are not on that device"};
  cuda_driver::DeviceAddress commands = address_of(what.commands);
  cuda_driver::DeviceAddress done = address_of(&what.done);
  cuda_driver::DeviceAddress left = address_of(&what.left);
  std::uint32_t slots = what.slots;
  std::uint32_t turn = what.turn;
  std::uint64_t idle_ns = what.idle_ns;
  void* parameters[] = {&commands, &slots, &turn, &done, &left, &idle_ns};
  return driver_.launch_in(device, stream, loaded->stay, 1, kStayingThreads, parameters);
}

}  // namespace mooncake_mpi::cuda
