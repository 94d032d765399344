// The stream that an engine's copies go into. A stream of the program's that waits for a message
// may hold up any other one of the process, for the hardware has few channels: then it is another
// stream that copies, one that has been seen to run since. Of one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "drivers/cuda/driver.h"

namespace mooncake_mpi::cuda {

class CopyStream {
 public:
  // The present one, made when it is used first. Calls the driver.
  Result<cuda_driver::Stream*> get(cuda_driver::Driver& driver, int device);
  cuda_driver::Stream* made() const noexcept {
    return present_ < streams_.size() ? streams_[present_].stream : nullptr;
  }

  // Whether the present one has run since the program's `latest` wait. False: look again, perhaps
  // it is another one then; never while `in_use`, so that its copies end in their order. Calls the
  // driver.
  Result<bool> runs_since(std::uint64_t latest, bool in_use, cuda_driver::Driver& driver,
                          int device);

 private:
  static constexpr std::size_t kMost = 16;  // the hardware has 8 channels, unless it is told else
  static constexpr std::uint64_t kPatienceNs = 100'000;

  struct Candidate {
    cuda_driver::Stream* stream = nullptr;
    bool asked = false;        // to store that it runs
    std::uint64_t latest = 0;  // the wait before that
    std::uint32_t answer = 0;  // what its word is then
    std::uint64_t asked_ns = 0;

    bool has_answered() const noexcept {
      const std::uint32_t word = stream->word->load(std::memory_order_acquire);
      return asked && static_cast<std::int32_t>(word - answer) >= 0;
    }
  };

  std::vector<Candidate> streams_;
  std::size_t present_ = 0;
};

}  // namespace mooncake_mpi::cuda
