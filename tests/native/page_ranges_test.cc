// The free pages of an arena, against a model that knows every page. One thread.
#include "memory/page_ranges.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "effort.h"

namespace mooncake_mpi {
namespace {

constexpr std::uint64_t kFirst = 1;
constexpr std::uint64_t kPages = 300;

enum class Page { kClean, kDirty, kTaken };

class Model {
 public:
  Model() : pages_(kFirst + kPages, Page::kClean) {}

  void set(std::uint64_t first, std::uint64_t count, Page to) {
    for (std::uint64_t i = first; i < first + count; ++i)
      pages_[i] = to;
  }
  bool all(std::uint64_t first, std::uint64_t count, Page what) const {
    if (first < kFirst || first + count > pages_.size()) return false;
    for (std::uint64_t i = first; i < first + count; ++i) {
      if (pages_[i] != what) return false;
    }
    return true;
  }
  bool has_room(std::uint64_t count, std::uint64_t alignment) const {
    for (const Page kind : {Page::kClean, Page::kDirty}) {
      for (std::uint64_t first = 0; first < pages_.size(); first += alignment) {
        if (all(first, count, kind)) return true;
      }
    }
    return false;
  }
  std::uint64_t count(Page what) const {
    return static_cast<std::uint64_t>(std::count(pages_.begin() + kFirst, pages_.end(), what));
  }

 private:
  std::vector<Page> pages_;
};

TEST(PageRanges, RandomTakingAndGivingBackAgreesWithAModel) {
  std::mt19937 random(5);
  const auto draw = [&](std::uint64_t below) { return random() % below; };
  PageRanges ranges(kFirst, kPages);
  Model model;
  struct Taken {
    std::uint64_t first;
    std::uint64_t pages;
  };
  std::vector<Taken> taken;
  int refused = 0;
  for (int step = 0; step < effort(100'000); ++step) {
    const std::uint64_t action = draw(10);
    if (action < 5) {
      const std::uint64_t pages = 1 + draw(draw(4) == 0 ? 100 : 8);
      const std::uint64_t alignment = draw(3) == 0 ? 16 : 1;
      const auto range = ranges.take(pages, alignment);
      ASSERT_EQ(range.has_value(), model.has_room(pages, alignment)) << "step " << step;
      if (!range) {
        ++refused;
        continue;
      }
      ASSERT_EQ(range->pages, pages);
      ASSERT_EQ(range->first % alignment, 0u);
      ASSERT_TRUE(model.all(range->first, pages, range->clean ? Page::kClean : Page::kDirty));
      model.set(range->first, pages, Page::kTaken);
      taken.push_back({range->first, pages});
    } else if (action < 9 && !taken.empty()) {
      const std::size_t which = draw(taken.size());
      const Taken back = taken[which];
      taken.erase(taken.begin() + static_cast<long>(which));
      ranges.give_back(back.first, back.pages);
      model.set(back.first, back.pages, Page::kDirty);
    } else if (action == 9) {
      const std::uint64_t pages = draw(20);
      const auto range = ranges.clean(pages);
      ASSERT_EQ(range.has_value(), pages != 0 && model.count(Page::kDirty) != 0);
      if (!range) continue;
      ASSERT_LE(range->pages, pages);
      ASSERT_TRUE(model.all(range->first, range->pages, Page::kDirty));
      model.set(range->first, range->pages, Page::kClean);
    }
    ASSERT_EQ(ranges.dirty_pages(), model.count(Page::kDirty));
    ASSERT_EQ(ranges.free_pages(), kPages - model.count(Page::kTaken));
  }
  EXPECT_GT(refused, 100);
}

TEST(PageRanges, UsedPagesAreHandedOutBeforeUntouchedOnes) {
  PageRanges ranges(kFirst, kPages);
  const auto range = ranges.take(10);
  ranges.give_back(range->first, 10);
  const auto again = ranges.take(4);
  EXPECT_FALSE(again->clean);
  EXPECT_EQ(again->first, range->first);
  EXPECT_TRUE(ranges.take(7)->clean);
}

}  // namespace
}  // namespace mooncake_mpi
