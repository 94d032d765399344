// A copy in host memory of what a device's buffer has, for a buffered send: once it is whole the
// program's memory is free. One thread at a time; never with the engine's lock held.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "base/result.h"
#include "memory/memory_device.h"
#include "transport/packet_sink.h"

namespace mooncake_mpi {

class HostCopy {
 public:
  // Asks the device's driver, which may block.
  static Result<HostCopy> begin(const Buffer& buffer) {
    auto source = buffer.device->source(buffer);
    if (!source) return source.failure();
    std::unique_ptr<std::byte[]> memory(new (std::nothrow) std::byte[buffer.bytes]);
    if (memory == nullptr) return Failure{Error::kNoMemory, "no memory for a buffered message"};
    HostCopy copy;
    copy.source_ = std::move(source).value();
    copy.memory_ = std::move(memory);
    return copy;
  }

  // Takes what the device has brought; true when there will be no more.
  bool advance() {
    while (!failed_ && done_ < source_->bytes()) {
      const Bytes run = source_->at(done_, source_->bytes() - done_);
      failed_ = source_->failed();
      if (run.empty()) break;
      std::memcpy(memory_.get() + done_, run.data(), run.size());
      done_ += run.size();
    }
    return failed_ || done_ == source_->bytes();
  }
  Result<std::unique_ptr<std::byte[]>> take() {
    if (failed_) return Failure{Error::kBuffer, "the device has failed"};
    return std::move(memory_);
  }

 private:
  std::unique_ptr<Source> source_;
  std::unique_ptr<std::byte[]> memory_;
  std::uint64_t done_ = 0;
  bool failed_ = false;
};

}  // namespace mooncake_mpi
