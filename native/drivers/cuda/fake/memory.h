// The fake driver's memory: of devices, pinned, and other processes' that was opened. All with the
// state's lock held.
#pragma once

#include <sys/types.h>

#include "drivers/cuda/fake/driver.h"

namespace mooncake_mpi::cuda_driver::fake {

struct Block {
  enum class Kind { kDevice, kPool, kImported, kPinned };

  Block() = default;
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  bool on_device() const { return kind != Kind::kPinned; }

  Kind kind = Kind::kDevice;
  Device* device = nullptr;     // whose memory it is
  CUcontext context = nullptr;  // in which it was made or opened
  CUdeviceptr base = 0;
  std::size_t bytes = 0;
  std::byte* data = nullptr;  // where the processor finds it
  std::uint64_t buffer_id = 0;
  int file = -1;  // of memory that others may open
  // Of an opened one: who exported what, and how often it is open here.
  pid_t exporter = 0;
  std::uint64_t exported_id = 0;
  CUdeviceptr exported_base = 0;  // there
  ino_t inode = 0;
  unsigned opens = 0;
};

std::size_t whole_pages(std::size_t bytes);
// Addresses that no processor may touch, those of freed memory of that size first; 0: none.
CUdeviceptr reserve(Driver& driver, std::size_t bytes);
// Ends a block of device memory; it lives until operations that are at it have ended.
void release(Driver& driver, const std::shared_ptr<Block>& block);

// The block that an address lies in, or null.
std::shared_ptr<Block> block_at(Driver& driver, CUdeviceptr address);

// What a range of addresses is to the driver.
struct Place {
  enum class Kind { kKnown, kPageable, kBad };
  Kind kind = Kind::kBad;
  std::shared_ptr<Block> block;
  std::byte* data = nullptr;
};
Place place_of(Driver& driver, CUdeviceptr address, std::size_t bytes);

// Ends all memory of a context.
void end_memory(Driver& driver, CUcontext context);

}  // namespace mooncake_mpi::cuda_driver::fake
