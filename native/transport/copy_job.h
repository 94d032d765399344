#pragma once

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

  static constexpr std::uint32_t kNone = UINT32_MAX;

  // Receiver, before the job is announced.
  void open(std::uint32_t generation) noexcept {
    done.store(0, std::memory_order_relaxed);
    claims.store(std::uint64_t{generation} << 32, std::memory_order_release);
  }

  // The index of a chunk that is now the caller's, or kNone.
  std::uint32_t claim(std::uint32_t generation, std::uint32_t chunk_count) noexcept {
    std::uint64_t seen = claims.load(std::memory_order_acquire);
    for (;;) {
      auto next = static_cast<std::uint32_t>(seen);
      if (static_cast<std::uint32_t>(seen >> 32) != generation || next >= chunk_count) return kNone;
      if (claims.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return next;
    }
  }

  // True if this was the last one.
  bool finish_chunk(std::uint32_t chunk_count) noexcept {
    return done.fetch_add(1, std::memory_order_seq_cst) + 1 == chunk_count;
  }
};

}  // namespace mooncake_mpi
