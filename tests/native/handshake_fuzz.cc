// libFuzzer's entry: a stranger in handshakes of two processes.
#include "handshake_play.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  mooncake_mpi::wire::play_handshake({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
