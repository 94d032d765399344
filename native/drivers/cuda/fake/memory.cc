// Memory of the fake driver. Device memory is a file in memory, mapped where the driver alone
// looks; the addresses handed out are reserved without any access, so that a processor that follows
// them crashes. Freed addresses come again, as under a caching allocator.
#include "drivers/cuda/fake/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

namespace mooncake_mpi::cuda_driver::fake {
namespace {

constexpr std::size_t kPage = 4096;

std::shared_ptr<Block> make_device_block(Driver& driver, std::size_t bytes) {
  auto block = std::make_shared<Block>();
  block->file = memfd_create("fake_cuda", MFD_CLOEXEC);
  if (block->file < 0 || ftruncate(block->file, static_cast<off_t>(whole_pages(bytes))) != 0) {
    return nullptr;
  }
  void* data =
      mmap(nullptr, whole_pages(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, block->file, 0);
  if (data == MAP_FAILED) return nullptr;
  block->data = static_cast<std::byte*>(data);
  block->bytes = bytes;
  block->base = reserve(driver, bytes);
  return block->base == 0 ? nullptr : block;
}

CUresult allocate(Call& call, CUdeviceptr* address, std::size_t bytes, Block::Kind kind) {
  Driver& driver = call.driver();
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  auto block = make_device_block(driver, bytes);
  if (block == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  block->kind = kind;
  block->device = call.device();
  block->context = call.device()->context;
  block->buffer_id = ++driver.next_buffer;
  driver.blocks[block->base] = block;
  *address = block->base;
  return CUDA_SUCCESS;
}

}  // namespace

Block::~Block() {
  if (kind == Kind::kPinned) {
    std::free(data);
  } else if (data != nullptr) {
    munmap(data, whole_pages(bytes));
  }
  if (file >= 0) close(file);
}

std::size_t whole_pages(std::size_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

CUdeviceptr reserve(Driver& driver, std::size_t bytes) {
  const std::size_t size = whole_pages(bytes);
  if (const auto found = driver.reusable.find(size); found != driver.reusable.end()) {
    const CUdeviceptr address = found->second;
    driver.freed.erase(address);
    driver.reusable.erase(found);
    return address;
  }
  // One page more, so that no range goes on in the next.
  void* address =
      mmap(nullptr, size + kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return address == MAP_FAILED ? 0 : reinterpret_cast<CUdeviceptr>(address);
}

void release(Driver& driver, const std::shared_ptr<Block>& block) {
  driver.blocks.erase(block->base);
  // What was exported cannot be opened any more, at once.
  if (block->file >= 0) close(std::exchange(block->file, -1));
  const std::size_t size = whole_pages(block->bytes);
  driver.freed[block->base] = size;
  driver.reusable.emplace(size, block->base);
}

std::shared_ptr<Block> block_at(Driver& driver, CUdeviceptr address) {
  auto next = driver.blocks.upper_bound(address);
  if (next == driver.blocks.begin()) return nullptr;
  const auto& block = std::prev(next)->second;
  return address - block->base < block->bytes ? block : nullptr;
}

Place place_of(Driver& driver, CUdeviceptr address, std::size_t bytes) {
  if (address == 0) return {};
  if (auto block = block_at(driver, address)) {
    const std::size_t offset = address - block->base;
    if (bytes > block->bytes - offset) return {};
    std::byte* data = block->data + offset;
    return {Place::Kind::kKnown, std::move(block), data};
  }
  auto next = driver.freed.upper_bound(address);
  if (next != driver.freed.begin()) {
    const auto& [base, size] = *std::prev(next);
    if (address - base < size) return {};
  }
  return {Place::Kind::kPageable, nullptr, reinterpret_cast<std::byte*>(address)};
}

void end_memory(Driver& driver, CUcontext context) {
  std::vector<std::shared_ptr<Block>> ended;
  for (const auto& [base, block] : driver.blocks) {
    if (block->context == context) ended.push_back(block);
  }
  for (const auto& block : ended) {
    if (block->on_device()) {
      release(driver, block);
    } else {
      driver.blocks.erase(block->base);
    }
  }
}

CUresult cuMemAlloc(CUdeviceptr* address, std::size_t bytes) {
  Call call(Function::cuMemAlloc, Needs::kContext);
  if (call.failed()) return call.error();
  return allocate(call, address, bytes, Block::Kind::kDevice);
}

CUresult cuMemFree(CUdeviceptr address) {
  Call call(Function::cuMemFree, Needs::kHealthy);
  if (call.failed()) return call.error();
  const auto block = block_at(call.driver(), address);
  if (block == nullptr || block->base != address) return CUDA_ERROR_INVALID_VALUE;
  if (block->kind != Block::Kind::kDevice && block->kind != Block::Kind::kPool) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  release(call.driver(), block);
  return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void** address, std::size_t bytes, unsigned /*flags*/) {
  Call call(Function::cuMemHostAlloc, Needs::kContext);
  if (call.failed()) return call.error();
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  auto block = std::make_shared<Block>();
  block->kind = Block::Kind::kPinned;
  block->data = static_cast<std::byte*>(std::aligned_alloc(kPage, whole_pages(bytes)));
  if (block->data == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  block->device = call.device();
  block->context = call.device()->context;
  block->base = reinterpret_cast<CUdeviceptr>(block->data);
  block->bytes = bytes;
  block->buffer_id = ++call.driver().next_buffer;
  call.driver().blocks[block->base] = block;
  *address = block->data;
  return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void* address) {
  Call call(Function::cuMemFreeHost, Needs::kHealthy);
  if (call.failed()) return call.error();
  const auto base = reinterpret_cast<CUdeviceptr>(address);
  const auto block = block_at(call.driver(), base);
  if (block == nullptr || block->base != base || block->on_device()) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  call.driver().blocks.erase(base);
  return CUDA_SUCCESS;
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr* address, void* host, unsigned flags) {
  Call call(Function::cuMemHostGetDevicePointer, Needs::kContext);
  if (call.failed()) return call.error();
  const auto found = reinterpret_cast<CUdeviceptr>(host);
  const auto block = block_at(call.driver(), found);
  if (flags != 0 || block == nullptr || block->on_device()) return CUDA_ERROR_INVALID_VALUE;
  *address = found;
  return CUDA_SUCCESS;
}

}  // namespace mooncake_mpi::cuda_driver::fake

std::uint64_t fake_cuda_alloc_pool(std::size_t bytes) {
  using namespace mooncake_mpi::cuda_driver;
  using namespace mooncake_mpi::cuda_driver::fake;
  Call call(Function::cuMemAlloc, Needs::kContext);
  CUdeviceptr address = 0;
  if (!call.failed()) allocate(call, &address, bytes, Block::Kind::kPool);
  return address;
}
