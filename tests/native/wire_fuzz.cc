// libFuzzer's entry: the same bytes as a packet and as an address.
#include "wire_decode_all.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  mooncake_mpi::wire::decode_packet(bytes);
  mooncake_mpi::wire::decode_entry(bytes);
  return 0;
}
