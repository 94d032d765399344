// The kernels of this library, loaded on the devices that need them: copies whose ends the host
// names when a stream waits already (kernels.cu). Any thread, without the engine's lock.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "drivers/cuda/driver.h"

namespace mooncake_mpi::cuda {

class Gates;

extern const char kKernels[];

// As the kernels read it: four vectors whose last words say the turn. A line of pinned memory.
struct alignas(64) Command {
  struct Vector {
    std::array<std::uint32_t, 3> words;
    std::atomic<std::uint32_t> turn;
  };
  std::array<Vector, 4> vectors;
};
static_assert(sizeof(Command) == 64);

// What fits into a command itself, and need not be fetched from elsewhere.
inline constexpr std::uint64_t kInlineBytes = 24;

struct Order {
  cuda_driver::DeviceAddress to = 0;
  cuda_driver::DeviceAddress from = 0;
  std::uint64_t bytes = 0;  // 0: nothing is to be done
  const std::byte* given =
      nullptr;  // the bytes themselves, kInlineBytes at most, instead of `from`
};
// The turn comes last: whoever waits for it finds the rest.
void write(Command& command, const Order& order, std::uint32_t turn) noexcept;

class Kernels {
 public:
  static constexpr std::size_t kPublishedBytes = 128;

  Kernels(cuda_driver::Driver& driver, Gates& gates) noexcept : driver_(driver), gates_(gates) {}
  Kernels(const Kernels&) = delete;
  Kernels& operator=(const Kernels&) = delete;

  // Whether the device has them, from now on. The first time they are loaded, if no stream waits:
  // loading would wait for that stream, and hold the driver meanwhile.
  bool are_on(int device) noexcept;

  // Zeros in a device's memory, before anything waits there. `zeros` is pinned memory.
  Result<bool> clear(int device, cuda_driver::DeviceAddress memory, const std::byte* zeros,
                     std::size_t bytes);

  // For a stream of the program's; `command` is pinned memory, `published` kPublishedBytes
  // of the device's own, which were zero once. The command of the turn is there when the stream
  // comes to it.
  Result<bool> copy(int device, cuda_driver::StreamHandle stream, const Command& command,
                    cuda_driver::DeviceAddress published, std::uint32_t turn,
                    const std::atomic<std::uint32_t>& done, std::uint64_t most_bytes);
  // It waits for the command. Both store the turn in `done` at their ends.
  Result<bool> take(int device, cuda_driver::StreamHandle stream, const Command& command,
                    std::uint32_t turn, const std::atomic<std::uint32_t>& done,
                    std::uint64_t most_bytes);
  // Stays, and carries out one command after the other: that of a turn in the slot of its
  // remainder. Leaves when none has come for so long; `left` then has the turn of the next one, and
  // the word behind it is one.
  struct Stay {
    const Command* commands;
    std::uint32_t slots;
    std::uint32_t turn;  // the first
    const std::atomic<std::uint32_t>& done;
    const std::atomic<std::uint32_t>& left;
    std::uint64_t idle_ns;
  };
  Result<bool> stay(int device, cuda_driver::StreamHandle stream, const Stay& what);

 private:
  struct Loaded {
    cuda_driver::Function copy = nullptr;
    cuda_driver::Function take = nullptr;
    cuda_driver::Function stay = nullptr;
    cuda_driver::Stream* stream = nullptr;  // of their own
    bool refused = false;
  };
  Result<Loaded> load(int device);
  Result<bool> clear(cuda_driver::Stream& stream, cuda_driver::DeviceAddress memory,
                     const std::byte* zeros, std::size_t bytes);
  Loaded* find(int device);

  cuda_driver::Driver& driver_;
  Gates& gates_;
  std::mutex mutex_;
  std::map<int, Loaded> loaded_;               // by device
  std::vector<cuda_driver::Stream*> streams_;  // also those of devices that refused the rest
};

}  // namespace mooncake_mpi::cuda
