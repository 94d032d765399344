#pragma once

// Buffers inside a pickle stream (protocol 5, PEP 574). The message of an object is one stream that
// every unpickler reads; a sender that has the buffers apart from it puts them there without
// copying them, behind a mark that any other reader takes for nothing, and a receiver that knows
// the mark leaves them where they arrived.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mooncake_mpi::wire {

// What goes around the buffers, one more than there are buffers, so that the whole is the stream
// with its buffers in it. It is no longer than the pickler would have made it, and the buffers
// begin at multiples of 16, or at least 8, where that allows it. Nothing if `stream` is no pickle
// with as many buffers beside it as there are `sizes`, in bytes, or the whole would be longer.
std::optional<std::vector<std::string>> put_buffers_in(std::string_view stream,
                                                       std::span<const std::uint64_t> sizes);

struct PickledBuffer {
  std::size_t begin = 0;  // of what stands for it in the stream, from the mark on
  std::size_t data = 0;
  std::size_t bytes = 0;
  bool read_only = false;

  std::size_t end() const noexcept { return data + bytes; }
};

// The marked buffers of a received message. None where it is not a pickle stream to its last byte.
std::vector<PickledBuffer> find_buffers(std::string_view message);

// The stream of a message with `buffers`, which lie beside it.
std::string take_buffers_out(std::string_view message, std::span<const PickledBuffer> buffers);

}  // namespace mooncake_mpi::wire
