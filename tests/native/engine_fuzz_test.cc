// Plays of random bytes over every lane, for a second each. MOONCAKE_MPI_FUZZ_SECONDS makes it
// longer, MOONCAKE_MPI_FUZZ_SEED plays one again: a failure says which it was.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "base/clock.h"
#include "engine_play.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace mooncake_mpi::testing {
namespace {

char playing[96];

[[maybe_unused]] void say_which() {
  std::fputs(playing, stderr);
}

// A play that stops the program says which it was, too.
void say_which_at_death() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  __sanitizer_set_death_callback(say_which);
#endif
}

std::uint64_t number_of(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

std::vector<std::uint8_t> random_bytes(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::uint8_t> bytes(20 + random() % 1'500);
  for (std::uint8_t& byte : bytes)
    byte = static_cast<std::uint8_t>(random());
  return bytes;
}

void play_seed(std::uint64_t seed, const Lane& lane, bool honest) {
  std::snprintf(playing, sizeof playing, "MOONCAKE_MPI_FUZZ_SEED=%llu, %s, %s\n",
                static_cast<unsigned long long>(seed), lane.name, honest ? "honest" : "hostile");
  SCOPED_TRACE(playing);
  const std::vector<std::uint8_t> bytes = random_bytes(seed);
  Choices choices(bytes);
  play(choices, lane, honest);
}

void play_for_a_while(const Lane& lane, bool honest) {
  say_which_at_death();
  const std::uint64_t again = number_of("MOONCAKE_MPI_FUZZ_SEED", 0);
  if (again != 0) return play_seed(again, lane, honest);
  const std::uint64_t limit_ns = number_of("MOONCAKE_MPI_FUZZ_SECONDS", 1) * 1'000'000'000u;
  std::random_device entropy;
  int plays = 0;
  for (const std::uint64_t start = now_ns(); now_ns() - start < limit_ns; ++plays) {
    play_seed(1 + entropy(), lane, honest);
    if (::testing::Test::HasFailure()) return;
  }
  ::testing::Test::RecordProperty("plays", plays);
}

class EnginePlays : public OverEveryLane {};

TEST_P(EnginePlays, OfHonestPartiesDeliverEverythingWhole) {
  play_for_a_while(GetParam(), true);
}

TEST_P(EnginePlays, WithPeersThatLieAndDieLeaveMemoryWholeAndEnd) {
  play_for_a_while(GetParam(), false);
}

INSTANTIATE_TEST_SUITE_P(Lanes, EnginePlays, ::testing::ValuesIn(kLanes), lane_name);

}  // namespace
}  // namespace mooncake_mpi::testing
