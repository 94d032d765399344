#include "memory/copy.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace mooncake_mpi {

#if defined(__SSE2__)

// SSE2 is part of x86-64. Wider stores gain nothing: memory is the limit, not instructions.
void copy_bytes(void* to, const void* from, std::size_t bytes, bool past_caches) noexcept {
  constexpr std::size_t kLine = 64;
  constexpr std::size_t kAhead = 1024;  // that far the loads run before the stores
  auto* target = static_cast<char*>(to);
  auto* source = static_cast<const char*>(from);
  if (!past_caches || bytes < 4 * kLine) {
    std::memcpy(target, source, bytes);
    return;
  }
  const std::size_t head = (kLine - reinterpret_cast<std::uintptr_t>(target) % kLine) % kLine;
  std::memcpy(target, source, head);
  target += head;
  source += head;
  bytes -= head;
  for (; bytes >= kLine; bytes -= kLine, target += kLine, source += kLine) {
    // A prefetch of an address that is not mapped does nothing.
    _mm_prefetch(source + kAhead, _MM_HINT_T0);
    const auto* in = reinterpret_cast<const __m128i*>(source);
    auto* out = reinterpret_cast<__m128i*>(target);
    const __m128i first = _mm_loadu_si128(in);
    const __m128i second = _mm_loadu_si128(in + 1);
    const __m128i third = _mm_loadu_si128(in + 2);
    const __m128i fourth = _mm_loadu_si128(in + 3);
    _mm_stream_si128(out, first);
    _mm_stream_si128(out + 1, second);
    _mm_stream_si128(out + 2, third);
    _mm_stream_si128(out + 3, fourth);
  }
  _mm_sfence();  // such stores are ordered with nothing else
  std::memcpy(target, source, bytes);
}

#else

void copy_bytes(void* to, const void* from, std::size_t bytes, bool) noexcept {
  std::memcpy(to, from, bytes);
}

#endif

}  // namespace mooncake_mpi
