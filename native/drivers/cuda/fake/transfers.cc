// Operations on memory: copies, and the words that streams wait for and write. Where memory lies is
// looked up when the operation runs: what was freed in between is an error of the device, and what
// was given out again is overwritten.
#include <cstring>

#include "drivers/cuda/fake/memory.h"
#include "drivers/cuda/fake/stream_calls.h"

namespace mooncake_mpi::cuda_driver::fake {
namespace {

// From this size on other threads may call while bytes are copied.
constexpr std::size_t kLargeCopy = 4096;

// An end of a copy: memory that the driver knows, or bytes of the host.
struct End {
  CUdeviceptr address = 0;
  std::byte* host = nullptr;
};

bool locate(Driver& driver, const End& end, std::size_t bytes, Place& place) {
  if (end.host != nullptr) {
    place.data = end.host;
    return true;
  }
  place = place_of(driver, end.address, bytes);
  return place.kind == Place::Kind::kKnown;
}

Outcome copy(Driver& driver, Lock& lock, const End& to, const End& from, std::size_t bytes) {
  Place target;
  Place source;
  if (!locate(driver, to, bytes, target) || !locate(driver, from, bytes, source)) {
    break_down(driver, CUDA_ERROR_ILLEGAL_ADDRESS);
    return Outcome::kFault;
  }
  if (bytes >= kLargeCopy) lock.unlock();
  std::memmove(target.data, source.data, bytes);
  if (!lock.owns_lock()) lock.lock();
  return Outcome::kDone;
}

std::uint32_t* word_at(Driver& driver, CUdeviceptr address) {
  const Place place = place_of(driver, address, sizeof(std::uint32_t));
  return place.kind == Place::Kind::kKnown ? reinterpret_cast<std::uint32_t*>(place.data) : nullptr;
}

CUresult check_word(Call& call, CUdeviceptr address) {
  if (address % sizeof(std::uint32_t) != 0) return CUDA_ERROR_INVALID_VALUE;
  return word_at(call.driver(), address) == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

}  // namespace

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
  Call call(Function::cuMemcpyAsync, Needs::kHealthy);
  if (call.failed()) return call.error();
  Driver& driver = call.driver();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  if (bytes == 0) return CUDA_SUCCESS;
  const Place target = place_of(driver, to, bytes);
  const Place source = place_of(driver, from, bytes);
  if (target.kind == Place::Kind::kBad || source.kind == Place::Kind::kBad) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const bool to_pageable = target.kind == Place::Kind::kPageable;
  std::shared_ptr<std::byte[]> staged;
  End source_end{from};
  if (source.kind == Place::Kind::kPageable) {
    // The caller may write to it as soon as the call has returned.
    staged = std::make_unique<std::byte[]>(bytes);
    std::memcpy(staged.get(), source.data, bytes);
    source_end.host = staged.get();
  }
  const End target_end{to, to_pageable ? target.data : nullptr};
  Operation operation;
  operation.run = [&driver, target_end, source_end, staged, bytes](Lock& lock) {
    return copy(driver, lock, target_end, source_end, bytes);
  };
  const auto queued = submit(driver, found, std::move(operation));
  if (!to_pageable) return CUDA_SUCCESS;
  // A copy that runs while the device breaks down still writes to the caller's memory.
  return call.wait_for_all([&] { return queued->finished && !queued->running; });
}

// In the other order than they were given: none is promised.
CUresult cuMemcpyBatchAsync(CUdeviceptr* to, CUdeviceptr* from, std::size_t* bytes,
                            std::size_t count, CUmemcpyAttributes* attributes, std::size_t* begins,
                            std::size_t attribute_count, CUstream stream) {
  Call call(Function::cuMemcpyBatchAsync, Needs::kHealthy);
  if (call.failed()) return call.error();
  Driver& driver = call.driver();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  const bool in_order = attribute_count == 1 && begins[0] == 0 &&
                        attributes->srcAccessOrder == CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
  if (count == 0 || !in_order || stream == nullptr) return CUDA_ERROR_INVALID_VALUE;
  struct Copy {
    CUdeviceptr to;
    CUdeviceptr from;
    std::size_t bytes;
  };
  std::vector<Copy> copies;
  for (std::size_t i = count; i-- > 0;) {
    if (place_of(driver, to[i], bytes[i]).kind != Place::Kind::kKnown ||
        place_of(driver, from[i], bytes[i]).kind != Place::Kind::kKnown || bytes[i] == 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    copies.push_back({to[i], from[i], bytes[i]});
  }
  Operation operation;
  operation.run = [&driver, copies = std::move(copies)](Lock& lock) {
    for (const Copy& one : copies) {
      const Outcome outcome = copy(driver, lock, End{one.to}, End{one.from}, one.bytes);
      if (outcome != Outcome::kDone) return outcome;
    }
    return Outcome::kDone;
  };
  submit(driver, found, std::move(operation));
  return CUDA_SUCCESS;
}

CUresult cuMemcpy2DAsync(const CUDA_MEMCPY2D* asked, CUstream stream) {
  Call call(Function::cuMemcpy2DAsync, Needs::kHealthy);
  if (call.failed()) return call.error();
  Driver& driver = call.driver();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  const CUDA_MEMCPY2D plane = *asked;
  const bool on_devices =
      plane.srcMemoryType == CU_MEMORYTYPE_DEVICE && plane.dstMemoryType == CU_MEMORYTYPE_DEVICE;
  if (!on_devices || plane.WidthInBytes > plane.srcPitch || plane.WidthInBytes > plane.dstPitch) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Operation operation;
  operation.run = [&driver, plane](Lock& lock) {
    for (std::size_t row = 0; row < plane.Height; ++row) {
      const End to{plane.dstDevice + (plane.dstY + row) * plane.dstPitch + plane.dstXInBytes};
      const End from{plane.srcDevice + (plane.srcY + row) * plane.srcPitch + plane.srcXInBytes};
      const Outcome outcome = copy(driver, lock, to, from, plane.WidthInBytes);
      if (outcome != Outcome::kDone) return outcome;
    }
    return Outcome::kDone;
  };
  submit(driver, found, std::move(operation));
  return CUDA_SUCCESS;
}

CUresult cuStreamWaitValue32(CUstream stream, CUdeviceptr address, std::uint32_t value,
                             unsigned flags) {
  Call call(Function::cuStreamWaitValue32, Needs::kHealthy);
  if (call.failed()) return call.error();
  Driver& driver = call.driver();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  if (flags != CU_STREAM_WAIT_VALUE_GEQ) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult error = check_word(call, address); error != CUDA_SUCCESS) return error;
  Operation wait;
  wait.takes_time = false;
  wait.waits_for_memory = true;
  wait.run = [&driver, address, value](Lock&) {
    const std::uint32_t* word = word_at(driver, address);
    if (word == nullptr) {
      break_down(driver, CUDA_ERROR_ILLEGAL_ADDRESS);
      return Outcome::kFault;
    }
    const std::uint32_t seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    return static_cast<std::int32_t>(seen - value) >= 0 ? Outcome::kDone : Outcome::kNotYet;
  };
  submit(driver, found, std::move(wait));
  return CUDA_SUCCESS;
}

CUresult cuStreamWriteValue32(CUstream stream, CUdeviceptr address, std::uint32_t value,
                              unsigned flags) {
  Call call(Function::cuStreamWriteValue32, Needs::kHealthy);
  if (call.failed()) return call.error();
  Driver& driver = call.driver();
  std::shared_ptr<Stream> found;
  if (const CUresult error = stream_of(call, stream, found); error != CUDA_SUCCESS) return error;
  if (flags != CU_STREAM_WRITE_VALUE_DEFAULT) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult error = check_word(call, address); error != CUDA_SUCCESS) return error;
  Operation write;
  write.run = [&driver, address, value](Lock&) {
    std::uint32_t* word = word_at(driver, address);
    if (word == nullptr) {
      break_down(driver, CUDA_ERROR_ILLEGAL_ADDRESS);
      return Outcome::kFault;
    }
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    return Outcome::kDone;
  };
  submit(driver, found, std::move(write));
  return CUDA_SUCCESS;
}

}  // namespace mooncake_mpi::cuda_driver::fake
