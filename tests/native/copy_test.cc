// Copies around the caches move the same bytes as any other, and no others.
#include "memory/copy.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace mooncake_mpi {
namespace {

TEST(CopyBytes, EveryLengthAndAlignmentIsCopiedExactly) {
  constexpr std::size_t kMost = 700;
  std::vector<std::uint8_t> source(kMost + 200);
  for (std::size_t i = 0; i < source.size(); ++i)
    source[i] = static_cast<std::uint8_t>(i * 7 + i / 251);
  for (const bool past_caches : {false, true}) {
    for (std::size_t bytes = 0; bytes <= kMost; bytes += bytes < 300 ? 1 : 37) {
      for (const std::size_t from : {0, 1, 13, 63}) {
        for (const std::size_t to : {0, 1, 16, 40, 63}) {
          std::vector<std::uint8_t> target(kMost + 200, 0xa5);
          copy_bytes(target.data() + to, source.data() + from, bytes, past_caches);
          for (std::size_t i = 0; i < target.size(); ++i) {
            const bool inside = i >= to && i < to + bytes;
            ASSERT_EQ(target[i], inside ? source[from + i - to] : 0xa5)
                << bytes << " bytes from " << from << " to " << to << ", at " << i;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace mooncake_mpi
