#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>

#include "bindings/runtime.h"
#include "engine/posting.h"

namespace mooncake_mpi::bindings {

// For a buffered send of a device's memory: a copy in host memory, in `buffer` and `copy`. The
// program's signal handlers may end the wait for it. False with a Python exception set, or with
// why the device cannot.
struct BufferedCopy {
  Buffer buffer;
  std::unique_ptr<std::byte[]> copy;
  Error error = Error::kNone;
  std::string reason;
};
bool copy_to_host(const Buffer& buffer, BufferedCopy& copied);

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
