#include "bindings/stream_place.h"

namespace mooncake_mpi::bindings {

Result<Place> place_of(cuda::GpuMemory& memory, const Buffer& buffer,
                       cuda_driver::StreamHandle stream) {
  Place place;
  if (buffer.device != nullptr) {
    auto located = memory.locate(buffer.address);
    if (!located) return located.failure();
    place.allocation = located.value();
    place.device = place.allocation.device;
  }
  auto device = memory.driver().device_of(stream, place.device);
  if (!device) return device.failure();
  place.device = device.value();
  auto captured = memory.driver().captures(place.device, stream);
  if (!captured) return captured.failure();
  place.captured = captured.value();
  return place;
}

}  // namespace mooncake_mpi::bindings
