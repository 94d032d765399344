#include "transport/verbs/bounce_buffers.h"

namespace mooncake_mpi::verbs {

BounceBuffers::Buffer BounceBuffers::take() {
  if (free_.empty() && !add_slab()) return {};
  const std::uint32_t number = free_.back();
  free_.pop_back();
  return {this, number};
}

bool BounceBuffers::add_slab() {
  if (slabs_.size() >= most_slabs_) return false;
  Slab slab;
  slab.pages = Pages(kSlabBytes);
  bool usable = slab.pages.data() != nullptr;
  for (std::size_t rail = 0; rail < rails_.size() && usable; ++rail) {
    constexpr unsigned kAccess = verbs_driver::kLocalWrite | verbs_driver::kRemoteRead;
    auto region = rails_[rail]->registrations().register_memory(slab.pages.data(),
                                                                slab.pages.size(), kAccess);
    usable = static_cast<bool>(region);
    if (usable) slab.regions[rail] = std::move(region).value();
  }
  if (!usable) {
    most_slabs_ = slabs_.size();  // what may be locked is used up: not to be tried each time
    return false;
  }
  const auto first = static_cast<std::uint32_t>(slabs_.size()) * kPerSlab;
  free_.reserve((slabs_.size() + 1) * kPerSlab);  // giving back does not allocate
  slabs_.push_back(std::move(slab));
  for (std::uint32_t number = first + kPerSlab; number-- != first;)
    free_.push_back(number);
  return true;
}

}  // namespace mooncake_mpi::verbs
