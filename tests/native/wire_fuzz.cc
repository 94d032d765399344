// libFuzzer's entry: the same bytes as a packet, an address, a wire-up datagram, a framed packet
// and the pickle stream of an object.
#include <algorithm>
#include <vector>

#include "wire_decode_all.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  mooncake_mpi::wire::decode_packet(bytes);
  mooncake_mpi::wire::decode_entry(bytes);
  mooncake_mpi::wire::decode_framed(bytes);
  mooncake_mpi::wire::decode_keys(bytes);
  mooncake_mpi::wire::decode_pickle(bytes);
  // Nobody guesses 32 bytes: the fuzzer gets them as a gift.
  std::vector<std::byte> datagram(bytes.begin(), bytes.end());
  constexpr std::size_t kSecretAt = 8;
  constexpr std::size_t kAddresseeAt = 40;
  if (datagram.size() >= kAddresseeAt + 16) {
    using namespace mooncake_mpi::wire;
    std::ranges::copy(kTestSecret, datagram.begin() + kSecretAt);
    std::ranges::copy(kTestProcess, datagram.begin() + kAddresseeAt);
  }
  mooncake_mpi::wire::decode_datagram(datagram);
  return 0;
}
