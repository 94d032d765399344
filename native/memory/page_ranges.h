#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace mooncake_mpi {

// The free pages of an arena. Clean ones have no memory behind them and read as zeros; dirty ones
// were in use before and still have theirs, which makes them the better ones to hand out.
class PageRanges {
 public:
  struct Range {
    std::uint64_t first = 0;
    std::uint64_t pages = 0;
    bool clean = false;
  };

  // All of them free and clean.
  PageRanges(std::uint64_t first, std::uint64_t pages) { insert({first, pages, true}); }

  // `pages` in a row whose first one is a multiple of `alignment`; empty when there are none.
  std::optional<Range> take(std::uint64_t pages, std::uint64_t alignment = 1);
  // The pages were in use.
  void give_back(std::uint64_t first, std::uint64_t pages) { insert({first, pages, false}); }

  // At most `pages` pages from the end of the largest dirty range; they are clean from now on, and
  // the caller drops what they hold. Empty when no page is dirty.
  std::optional<Range> clean(std::uint64_t pages);

  std::uint64_t dirty_pages() const noexcept { return dirty_pages_; }
  std::uint64_t free_pages() const noexcept { return free_pages_; }

 private:
  using BySize = std::set<std::pair<std::uint64_t, std::uint64_t>>;  // pages, first

  BySize& by_size(bool clean) noexcept { return clean ? clean_ : dirty_; }
  void insert(Range range);
  void remove(const Range& range);

  std::map<std::uint64_t, Range> ranges_;  // by first page; neighbours of one kind are merged
  BySize clean_;
  BySize dirty_;
  std::uint64_t dirty_pages_ = 0;
  std::uint64_t free_pages_ = 0;
};

}  // namespace mooncake_mpi
