#include "memory/page_ranges.h"

#include <algorithm>
#include <iterator>

namespace mooncake_mpi {

// The smallest range that is large enough, a dirty one if there is any.
std::optional<PageRanges::Range> PageRanges::take(std::uint64_t pages, std::uint64_t alignment) {
  for (const bool clean : {false, true}) {
    BySize& sizes = by_size(clean);
    for (auto found = sizes.lower_bound({pages, 0}); found != sizes.end(); ++found) {
      const Range range{found->second, found->first, clean};
      const std::uint64_t first = (range.first + alignment - 1) / alignment * alignment;
      const std::uint64_t end = range.first + range.pages;
      if (first >= end || end - first < pages) continue;
      remove(range);
      if (first != range.first) insert({range.first, first - range.first, clean});
      if (first + pages != end) insert({first + pages, end - first - pages, clean});
      return Range{first, pages, clean};
    }
  }
  return std::nullopt;
}

std::optional<PageRanges::Range> PageRanges::clean(std::uint64_t pages) {
  if (dirty_.empty() || pages == 0) return std::nullopt;
  const auto [size, first] = *dirty_.rbegin();
  const std::uint64_t taken = std::min(size, pages);
  remove({first, size, false});
  if (taken != size) insert({first, size - taken, false});
  const Range cleaned{first + size - taken, taken, true};
  insert(cleaned);
  return cleaned;
}

void PageRanges::insert(Range range) {
  auto next = ranges_.lower_bound(range.first);
  if (next != ranges_.end() && next->second.clean == range.clean &&
      next->first == range.first + range.pages) {
    const Range right = next->second;
    next = std::next(next);
    remove(right);
    range.pages += right.pages;
  }
  if (next != ranges_.begin()) {
    const Range left = std::prev(next)->second;
    if (left.clean == range.clean && left.first + left.pages == range.first) {
      remove(left);
      range = {left.first, left.pages + range.pages, range.clean};
    }
  }
  ranges_.emplace(range.first, range);
  by_size(range.clean).emplace(range.pages, range.first);
  free_pages_ += range.pages;
  if (!range.clean) dirty_pages_ += range.pages;
}

void PageRanges::remove(const Range& range) {
  ranges_.erase(range.first);
  by_size(range.clean).erase({range.pages, range.first});
  free_pages_ -= range.pages;
  if (!range.clean) dirty_pages_ -= range.pages;
}

}  // namespace mooncake_mpi
