#pragma once

#include <string_view>

#include "wire/address.h"

namespace mooncake_mpi {

// Peer::lane of a process that has ended.
inline constexpr std::string_view kGoneLane = "gone";

// Whether a process of this node is no more.
bool has_ended(const wire::Address& process);

}  // namespace mooncake_mpi
