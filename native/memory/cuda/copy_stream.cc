#include "memory/cuda/copy_stream.h"

#include "base/clock.h"

namespace mooncake_mpi::cuda {

Result<cuda_driver::Stream*> CopyStream::get(cuda_driver::Driver& driver, int device) {
  if (present_ == streams_.size()) {
    streams_.reserve(streams_.size() + 1);
    auto made = driver.make_stream(device);
    if (!made) return made;
    streams_.push_back({.stream = made.value()});
  }
  return streams_[present_].stream;
}

Result<bool> CopyStream::runs_since(std::uint64_t latest, bool in_use, cuda_driver::Driver& driver,
                                    int device) {
  auto stream = get(driver, device);
  if (!stream) {
    if (streams_.empty()) return stream.failure();
    present_ = 0;
    return false;
  }
  Candidate& candidate = streams_[present_];
  const bool answered = candidate.has_answered();
  if (answered && candidate.latest == latest) return true;
  if (!candidate.asked || answered) {
    auto asked = driver.close_batch(*stream.value());
    if (!asked) return asked;
    candidate.asked = true;
    candidate.latest = latest;
    candidate.answer = stream.value()->submitted;
    candidate.asked_ns = now_ns();
    return false;
  }
  if (!in_use && now_ns() - candidate.asked_ns > kPatienceNs) present_ = (present_ + 1) % kMost;
  return false;
}

}  // namespace mooncake_mpi::cuda
