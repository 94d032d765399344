// Numbers of communicators.
#include <gtest/gtest.h>

#include <set>

#include "protocol/context.h"

namespace mooncake_mpi {
namespace {

TEST(ContextTable, NeverGivesANumberTwice) {
  ContextTable table;
  Context* kept = table.create();
  std::set<std::uint32_t> given{kept->number};
  for (int turn = 0; turn < 30'000; ++turn) {  // several times what a slot's generations count
    Context* context = table.create();
    ASSERT_NE(context, nullptr);
    ASSERT_TRUE(given.insert(context->number).second) << turn;
    table.destroy(*context);
  }
  for (const std::uint32_t number : given)
    EXPECT_EQ(table.find(number) != nullptr, number == kept->number);
}

}  // namespace
}  // namespace mooncake_mpi
