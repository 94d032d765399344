// What the fake driver knows of an address.
#include <cstring>

#include "drivers/cuda/fake/memory.h"

namespace mooncake_mpi::cuda_driver::fake {
namespace {

// The sizes with which the real one writes.
template <class T>
void store(void* data, T value) {
  std::memcpy(data, &value, sizeof value);
}

CUresult tell(const Block* block, CUpointer_attribute attribute, void* data) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      store<CUcontext>(data, block != nullptr ? block->context : nullptr);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      store<unsigned>(data, block == nullptr     ? CU_MEMORYTYPE_NONE
                            : block->on_device() ? CU_MEMORYTYPE_DEVICE
                                                 : CU_MEMORYTYPE_HOST);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      store<std::uint64_t>(data, block != nullptr ? block->buffer_id : 0);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      store<unsigned char>(data, 0);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      store<int>(data, block != nullptr ? block->device->ordinal : 0);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
      store<unsigned char>(data, block != nullptr && block->kind == Block::Kind::kDevice);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      store<CUdeviceptr>(data, block != nullptr ? block->base : 0);
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      store<std::size_t>(data, block != nullptr ? block->bytes : 0);
      return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute* attributes, void** data,
                                CUdeviceptr address) {
  Call call(Function::cuPointerGetAttributes, Needs::kHealthy);
  if (call.failed()) return call.error();
  const auto block = block_at(call.driver(), address);
  for (unsigned i = 0; i < count; ++i) {
    const CUresult error = tell(block.get(), attributes[i], data[i]);
    if (error != CUDA_SUCCESS) return error;
  }
  return CUDA_SUCCESS;
}

}  // namespace mooncake_mpi::cuda_driver::fake
