// Device memory that another process opens: the handle names a file of the exporter's and what must
// be in it. Memory that is open lives on when the exporter frees it or ends.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "drivers/cuda/fake/memory.h"

namespace mooncake_mpi::cuda_driver::fake {
namespace {

constexpr char kMagic[8] = "fakeipc";

struct Exported {
  char magic[8];
  std::int32_t process;
  std::int32_t file;
  std::uint64_t inode;
  std::uint64_t id;
  std::uint64_t base;  // in the exporter's address space
  std::uint64_t bytes;
  CUuuid device;
};
static_assert(sizeof(Exported) <= sizeof(CUipcMemHandle));

// The exporter's file, if it still is the one that the handle was made of; -1: it is not.
int open_exported(const Exported& exported) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/fd/%d", exported.process, exported.file);
  const int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return -1;
  struct stat status {};
  if (fstat(file, &status) == 0 && status.st_ino == exported.inode &&
      static_cast<std::uint64_t>(status.st_size) == whole_pages(exported.bytes)) {
    return file;
  }
  close(file);
  return -1;
}

std::shared_ptr<Block> find_opened(Driver& driver, const Exported& exported) {
  for (const auto& [base, block] : driver.blocks) {
    if (block->kind == Block::Kind::kImported && block->exporter == exported.process &&
        block->exported_id == exported.id && block->inode == exported.inode) {
      return block;
    }
  }
  return nullptr;
}

// Memory of the exporter's that was freed since, and is still open here, may have had these
// addresses: the real one refuses a second mapping of them.
bool is_taken(Driver& driver, const Exported& exported) {
  return std::ranges::any_of(driver.blocks, [&](const auto& item) {
    const Block& block = *item.second;
    return block.kind == Block::Kind::kImported && block.exporter == exported.process &&
           block.exported_base < exported.base + exported.bytes &&
           exported.base < block.exported_base + block.bytes;
  });
}

// The device as this process sees it; what it does not see counts as the current one's.
Device* device_of(Driver& driver, const CUuuid& uuid, Device* current) {
  for (const auto& device : driver.devices) {
    if (std::memcmp(&device->uuid, &uuid, sizeof uuid) == 0) return device.get();
  }
  return current;
}

}  // namespace

CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr address) {
  Call call(Function::cuIpcGetMemHandle, Needs::kContext);
  if (call.failed()) return call.error();
  const auto block = block_at(call.driver(), address);
  if (block == nullptr || block->kind != Block::Kind::kDevice) return CUDA_ERROR_INVALID_VALUE;
  struct stat status {};
  if (fstat(block->file, &status) != 0) return CUDA_ERROR_UNKNOWN;
  Exported exported{};
  std::memcpy(exported.magic, kMagic, sizeof kMagic);
  exported.process = getpid();
  exported.file = block->file;
  exported.inode = status.st_ino;
  exported.id = block->buffer_id;
  exported.base = block->base;
  exported.bytes = block->bytes;
  exported.device = block->device->uuid;
  std::memset(handle, 0, sizeof *handle);
  std::memcpy(handle, &exported, sizeof exported);
  return CUDA_SUCCESS;
}

CUresult cuIpcOpenMemHandle(CUdeviceptr* address, CUipcMemHandle handle, unsigned flags) {
  Call call(Function::cuIpcOpenMemHandle, Needs::kContext);
  if (call.failed()) return call.error();
  Driver& driver = call.driver();
  Exported exported{};
  std::memcpy(&exported, &handle, sizeof exported);
  if (flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS ||
      std::memcmp(exported.magic, kMagic, sizeof kMagic) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (exported.process == getpid() && !driver.opens_own) return CUDA_ERROR_INVALID_CONTEXT;
  const bool of_peer =
      std::memcmp(&exported.device, &call.device()->uuid, sizeof exported.device) != 0;
  if (of_peer && driver.no_peer) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
  if (const auto opened = find_opened(driver, exported)) {
    ++opened->opens;
    *address = opened->base;
    return CUDA_SUCCESS;
  }
  const int file = open_exported(exported);
  if (file < 0) return CUDA_ERROR_INVALID_VALUE;
  if (is_taken(driver, exported)) {
    close(file);
    return CUDA_ERROR_ALREADY_MAPPED;
  }
  void* data =
      mmap(nullptr, whole_pages(exported.bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (data == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  auto block = std::make_shared<Block>();
  block->kind = Block::Kind::kImported;
  block->data = static_cast<std::byte*>(data);
  block->bytes = exported.bytes;
  block->base = reserve(driver, exported.bytes);
  if (block->base == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  block->device = device_of(driver, exported.device, call.device());
  block->context = call.device()->context;
  block->buffer_id = ++driver.next_buffer;
  block->exporter = exported.process;
  block->exported_id = exported.id;
  block->exported_base = exported.base;
  block->inode = exported.inode;
  block->opens = 1;
  *address = block->base;
  driver.blocks[block->base] = std::move(block);
  return CUDA_SUCCESS;
}

CUresult cuIpcCloseMemHandle(CUdeviceptr address) {
  Call call(Function::cuIpcCloseMemHandle, Needs::kHealthy);
  if (call.failed()) return call.error();
  const auto block = block_at(call.driver(), address);
  if (block == nullptr || block->kind != Block::Kind::kImported || block->base != address) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (--block->opens == 0) release(call.driver(), block);
  return CUDA_SUCCESS;
}

}  // namespace mooncake_mpi::cuda_driver::fake
