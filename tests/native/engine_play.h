// A play: what the parties of a job do, chosen by bytes. Calls of every kind in any order, and
// packets that no honest peer sends, over any lane; a fuzzer's input, or random.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lanes.h"

namespace mooncake_mpi::testing {

// Numbers out of bytes; zeros when they are used up.
class Choices {
 public:
  explicit Choices(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  bool any() const noexcept { return !bytes_.empty(); }
  std::uint32_t below(std::uint32_t limit) noexcept {
    std::uint32_t value = next();
    if (limit > 256) value = value << 8 | next();
    return value % limit;
  }
  template <class T, std::size_t kCount>
  const T& of(const T (&choices)[kCount]) noexcept {
    return choices[below(kCount)];
  }
  std::uint64_t word() noexcept {
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i)
      value = value << 8 | next();
    return value;
  }

 private:
  std::uint8_t next() noexcept {
    if (bytes_.empty()) return 0;
    const std::uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }

  std::span<const std::uint8_t> bytes_;
};

// Honest: nobody sends anything but what the engine makes of calls, nobody dies; then every message
// that matched is whole. Otherwise what is asked is that memory stays whole, and that everything of
// rank 0 ends once the others are dead. Fails the running test, or stops the program.
void play(Choices& choices, const Lane& lane, bool honest);

}  // namespace mooncake_mpi::testing
