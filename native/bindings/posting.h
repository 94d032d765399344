#pragma once

#include <algorithm>
#include <span>

#include "bindings/runtime.h"
#include "engine/posting.h"

namespace mooncake_mpi::bindings {

// Those of device memory among them, with other Python threads running: a driver is asked, and a
// buffered send waits for what its stream has yet to do. `leave`: as post_and_leave().
void post_with_devices(std::span<Posting> postings, bool leave);

inline bool has_devices(std::span<const Posting> postings) noexcept {
  return std::ranges::any_of(
      postings, [](const Posting& posting) { return posting.buffer.device != nullptr; });
}

// The engine's calls of these names, with the interpreter's lock (GIL) held.
inline void post(std::span<Posting> postings) {
  if (has_devices(postings)) [[unlikely]]
    return post_with_devices(postings, false);
  runtime().engine->post(postings);
}
inline void post_and_leave(std::span<Posting> postings) {
  if (has_devices(postings)) [[unlikely]]
    return post_with_devices(postings, true);
  runtime().engine->post_and_leave(postings);
}

}  // namespace mooncake_mpi::bindings
