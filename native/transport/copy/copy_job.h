#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace mooncake_mpi {

// One large copy that sender and receiver share, in memory that both map. Each claims chunks from
// the same counter, so whoever is there works and nobody waits for a process that is not.
// A job is used again and again: the generation in every claim keeps a sender that comes late from
// taking chunks of the job's next life.
struct alignas(64) CopyJob {
  std::atomic<std::uint64_t> claims{0};  // generation << 32 | chunks claimed
  std::atomic<std::uint32_t> done{0};    // chunks copied

  // Receiver, before the job is announced.
  void open(std::uint32_t generation) noexcept {
    done.store(0, std::memory_order_relaxed);
    claims.store(std::uint64_t{generation} << 32, std::memory_order_release);
  }

  // Chunks that are now the caller's: half of those that are left, so that both sides make few and
  // large copies and still end together, but `most` at most; none (count 0) when none is left.
  struct Claim {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };
  Claim claim(std::uint32_t generation, std::uint32_t chunk_count,
              std::uint32_t most = UINT32_MAX) noexcept {
    std::uint64_t seen = claims.load(std::memory_order_acquire);
    for (;;) {
      auto next = static_cast<std::uint32_t>(seen);
      if (static_cast<std::uint32_t>(seen >> 32) != generation || next >= chunk_count) return {};
      const std::uint32_t count = std::min((chunk_count - next + 1) / 2, most);
      if (claims.compare_exchange_weak(seen, seen + count, std::memory_order_acq_rel)) {
        return {next, count};
      }
    }
  }

  // True if these were the last ones.
  bool finish(std::uint32_t chunks, std::uint32_t chunk_count) noexcept {
    return done.fetch_add(chunks, std::memory_order_seq_cst) + chunks == chunk_count;
  }
};

}  // namespace mooncake_mpi
