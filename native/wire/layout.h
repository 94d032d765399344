// Bytes that travelled as the structure that they are said to be.
#pragma once

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace mooncake_mpi::wire {

// Nothing unless there are exactly as many bytes as the structure has; its fields are still to be
// checked.
template <class Layout>
  requires std::is_trivially_copyable_v<Layout>
std::optional<Layout> read_layout(std::span<const std::byte> bytes) {
  if (bytes.size() != sizeof(Layout)) return std::nullopt;
  Layout layout;
  std::memcpy(&layout, bytes.data(), sizeof layout);
  return layout;
}

}  // namespace mooncake_mpi::wire
