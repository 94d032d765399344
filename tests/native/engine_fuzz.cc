// libFuzzer's entry: the first byte chooses the lane and whether the peers are honest, the others
// what happens.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iterator>

#include "engine_play.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mooncake_mpi::testing;
  if (size < 2) return 0;
  Choices choices({data + 1, size - 1});
  play(choices, kLanes[data[0] / 2 % std::size(kLanes)], data[0] % 2 == 0);
  if (::testing::Test::HasFailure()) std::abort();
  return 0;
}
