// Addresses come out of the book as they went in, whatever they have in common, and take little.
// One thread.
#include "engine/address_book.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <new>
#include <random>
#include <vector>

#include "counted_allocations.h"

namespace mooncake_mpi {
namespace {

class TheAddressBook : public ::testing::Test {
 protected:
  template <class Bytes>
  void fill(Bytes& bytes) {
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random_());
  }

  // Of that host, with sections of which so many bytes differ from one process to the next.
  wire::Address process(int host, std::size_t own_bytes) {
    wire::Address address;
    fill(address.uid);
    fill(address.job_secret);
    address.host[0] = static_cast<std::byte>(host);
    address.host[1] = static_cast<std::byte>(host >> 8);
    address.pid = static_cast<std::int32_t>(1 + random_() % 30'000);
    address.start_time = random_();
    for (const wire::LaneId lane : {wire::LaneId{2}, wire::LaneId{3}, wire::LaneId{5}}) {
      std::vector<std::byte> section(32u * lane, static_cast<std::byte>(lane));
      std::fill_n(section.begin() + 20, 2, static_cast<std::byte>(host));
      for (std::size_t i = 0; i < own_bytes; ++i)
        section[7 * i % section.size()] = static_cast<std::byte>(random_());
      address.add(lane, section);
    }
    return address;
  }

  std::mt19937 random_{20240607};
  AddressBook book_;
};

TEST_F(TheAddressBook, GivesBackWhatItWasGiven) {
  std::vector<wire::Address> all;
  for (int i = 0; i < 300; ++i)
    all.push_back(process(i / 8, static_cast<std::size_t>(i % 60)));
  all.push_back(process(3, 0));
  all.back().sections.clear();
  all.push_back(process(77, 0));
  all.back().sections.clear();
  all.push_back(process(77, 20));
  all.push_back(process(4, 5));
  all.back().add(9, std::vector<std::byte>(1500, std::byte{1}));
  all.back().add(10, {});
  for (std::size_t i = 0; i < all.size(); ++i) {
    bool added = false;
    EXPECT_EQ(book_.add(all[i], added), i);
    EXPECT_TRUE(added);
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto number = static_cast<std::uint32_t>(i);
    EXPECT_EQ(book_.address(number), all[i]) << i;
    EXPECT_EQ(book_.find(all[i].uid), number);
    EXPECT_EQ(book_.pid(number), all[i].pid);
    EXPECT_EQ(book_.secret(number), all[i].job_secret);
    EXPECT_TRUE(book_.is_of(number, all[i].host));
    EXPECT_FALSE(book_.is_of(number, all[i].uid));
    bool added = true;
    EXPECT_EQ(book_.add(all[i], added), number);
    EXPECT_FALSE(added);
  }
  EXPECT_EQ(book_.find({}), AddressBook::kNone);
}

TEST_F(TheAddressBook, WhoseFirstProcessHasNothingIsNoWorse) {
  wire::Address blank;
  blank.uid[0] = std::byte{1};
  bool added = false;
  book_.add(blank, added);
  const wire::Address other = process(1, 3);
  EXPECT_EQ(book_.address(book_.add(other, added)), other);
  EXPECT_EQ(book_.address(0), blank);
}

TEST_F(TheAddressBook, TakesLittleOfEachProcess) {
  constexpr int kProcesses = 10'000;
  const auto allocated = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const auto before = allocated();
  for (int i = 0; i < kProcesses; ++i) {
    bool added = false;
    book_.add(process(i / 8, 4), added);
  }
  // Without memory of its own that a sanitizer's allocator would count otherwise.
  if (before != 0) {
    EXPECT_LT((allocated() - before) / kProcesses, 140u);
  }
}

TEST_F(TheAddressBook, IsAsItWasWhereThereIsNoMemory) {
  bool added = false;
  for (int i = 0; i < 100; ++i) {
    const wire::Address address = process(i / 3, 10);
    for (int spare = 0;; ++spare) {
      testing::allocations_left = static_cast<std::uint64_t>(spare);
      try {
        book_.add(address, added);
        testing::allocations_left = UINT64_MAX;
        break;
      } catch (const std::bad_alloc&) {
        testing::allocations_left = UINT64_MAX;
      }
      ASSERT_EQ(book_.size(), static_cast<std::size_t>(i));
    }
    ASSERT_EQ(book_.address(static_cast<std::uint32_t>(i)), address);
  }
}

}  // namespace
}  // namespace mooncake_mpi
