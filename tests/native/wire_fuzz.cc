// libFuzzer's entry: the same bytes as a packet, an address, a wire-up datagram, a framed packet
// the pickle stream of an object, and what comes over a connection.
#include <algorithm>
#include <cstring>

#include "wire_decode_all.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  mooncake_mpi::wire::decode_packet(bytes);
  mooncake_mpi::wire::decode_entry(bytes);
  mooncake_mpi::wire::decode_framed(bytes);
  mooncake_mpi::wire::decode_keys(bytes, size);
  mooncake_mpi::wire::decode_pickle(bytes);
  mooncake_mpi::wire::decode_datagram(bytes);
  for (const std::size_t most : {std::size_t{8}, std::size_t{24}, size})
    mooncake_mpi::wire::decode_connection(bytes.first(std::min(most, size)));
  // Nobody guesses 48 bytes: the fuzzer gets them as a gift.
  using namespace mooncake_mpi::wire;
  Hello hello;
  std::memcpy(&hello, bytes.data(), std::min(bytes.size(), sizeof hello));
  hello.to = kTestProcess;
  prove(hello, kTestKey);
  decode_datagram(std::as_bytes(std::span(&hello, 1)));
  return 0;
}
