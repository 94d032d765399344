// How much random testing a build can afford: sanitizers make every access many times slower.
#pragma once

namespace mooncake_mpi {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// A quarter of them under sanitizers.
template <class Integer>
constexpr Integer effort(Integer rounds) {
  return kSanitized ? (rounds + 3) / 4 : rounds;
}

}  // namespace mooncake_mpi
