#pragma once

#include <atomic>
#include <cstdint>

#include "wire/copy_notes.h"

namespace mooncake_mpi {

// One large copy that sender and receiver share, in memory that both map. Each claims chunks from
// the same word, so whoever is there works and nobody waits for a process that is not. The receiver
// takes them from the front and the sender from the back: with a buffer that is used again, each
// finds its part of it in its core's own cache.
// A job is used again and again: the generation in every claim keeps a sender that comes late from
// taking chunks of the job's next life.
struct alignas(64) CopyJob {
  static constexpr std::uint32_t kMaxChunks = wire::ShareCopy::kMaxChunks;
  enum class End : std::uint8_t { kFront, kBack };

  // generation << 32 | chunks claimed at the back << 16 | at the front
  std::atomic<std::uint64_t> claims{0};
  std::atomic<std::uint32_t> done{0};  // chunks copied

  // Receiver, before the job is announced.
  void open(std::uint32_t generation) noexcept {
    done.store(0, std::memory_order_relaxed);
    claims.store(std::uint64_t{generation} << 32, std::memory_order_release);
  }

  // Chunks that are now the caller's; none (count 0) when none is left.
  struct Claim {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };
  // The next one at that end, of kMaxChunks at most.
  Claim claim(std::uint32_t generation, std::uint32_t chunk_count, End end) noexcept {
    return take(generation, chunk_count, end, 1);
  }
  // All that are left.
  Claim claim_rest(std::uint32_t generation, std::uint32_t chunk_count) noexcept {
    return take(generation, chunk_count, End::kFront, chunk_count);
  }

  // True if these were the last ones.
  bool finish(std::uint32_t chunks, std::uint32_t chunk_count) noexcept {
    return done.fetch_add(chunks, std::memory_order_seq_cst) + chunks == chunk_count;
  }

 private:
  Claim take(std::uint32_t generation, std::uint32_t chunk_count, End end,
             std::uint32_t most) noexcept {
    std::uint64_t seen = claims.load(std::memory_order_acquire);
    for (;;) {
      const std::uint32_t front = seen & UINT16_MAX;
      const std::uint32_t back = seen >> 16 & UINT16_MAX;
      if (static_cast<std::uint32_t>(seen >> 32) != generation || front + back >= chunk_count) {
        return {};
      }
      const std::uint32_t left = chunk_count - front - back;
      const std::uint32_t count = left < most ? left : most;
      const std::uint64_t taken = std::uint64_t{count} << (end == End::kFront ? 0 : 16);
      if (claims.compare_exchange_weak(seen, seen + taken, std::memory_order_acq_rel)) {
        return {end == End::kFront ? front : front + left - count, count};
      }
    }
  }
};

}  // namespace mooncake_mpi
