// MPI's matching rules, one by one, and what the matcher promises about its memory. One thread.
#include <gtest/gtest.h>

#include <deque>
#include <vector>

#include "matching/matcher.h"

namespace mooncake_mpi {
namespace {

// Arrives, and queues when no receive was posted.
Posted* deliver(Matcher& matcher, Unexpected& message) {
  Posted* receive = matcher.arrive(message.source, message.tag);
  if (receive == nullptr) matcher.enqueue(message);
  return receive;
}

TEST(Matching, AMessageTakesTheOldestPostedReceiveThatAcceptsIt) {
  Matcher matcher;
  Posted other(1, 8), exact(1, 7), any_source(kAnySource, 7), any_tag(1, kAnyTag), any;
  for (Posted* receive : {&other, &any_tag, &any, &exact, &any_source}) {
    EXPECT_EQ(matcher.post(*receive), nullptr);
  }
  EXPECT_EQ(matcher.arrive(1, 7), &any_tag);
  EXPECT_EQ(matcher.arrive(1, 7), &any);
  EXPECT_EQ(matcher.arrive(1, 7), &exact);
  EXPECT_EQ(matcher.arrive(1, 7), &any_source);
  EXPECT_EQ(matcher.arrive(1, 7), nullptr);
  EXPECT_TRUE(other.posted());
  EXPECT_FALSE(exact.posted());
}

TEST(Matching, ReceivesOfOneEnvelopeMatchInPostOrder) {
  Matcher matcher;
  std::deque<Posted> receives;
  for (int i = 0; i < 100; ++i)
    matcher.post(receives.emplace_back(3, 5));
  for (Posted& receive : receives)
    EXPECT_EQ(matcher.arrive(3, 5), &receive);
}

TEST(Matching, MessagesOfOneSourceAndTagMatchInArrivalOrder) {
  Matcher matcher;
  std::deque<Unexpected> messages;
  for (int i = 0; i < 100; ++i)
    deliver(matcher, messages.emplace_back(3, 5));
  for (Unexpected& message : messages) {
    Posted receive(3, 5);
    EXPECT_EQ(matcher.post(receive), &message);
    EXPECT_FALSE(receive.posted());
  }
}

TEST(Matching, AWildcardReceiveTakesTheOldestMessageOverAllEnvelopes) {
  Matcher matcher;
  Unexpected first(2, 9), second(1, 7), third(2, 7);
  for (Unexpected* message : {&first, &second, &third})
    deliver(matcher, *message);
  Posted tag_seven(kAnySource, 7), source_two(2, kAnyTag), any;
  EXPECT_EQ(matcher.post(tag_seven), &second);
  EXPECT_EQ(matcher.post(source_two), &first);
  EXPECT_EQ(matcher.post(any), &third);
}

TEST(Matching, MessagesThatArriveAfterTheFirstWildcardAreSeenByWildcardsToo) {
  Matcher matcher;
  EXPECT_EQ(matcher.find(kAnySource, 7), nullptr);
  Unexpected before(1, 7);
  deliver(matcher, before);
  EXPECT_EQ(matcher.find(kAnySource, 7), &before);
  Unexpected after(2, 7);
  deliver(matcher, after);
  EXPECT_EQ(matcher.take(kAnySource, 7), &before);
  EXPECT_EQ(matcher.take(kAnySource, kAnyTag), &after);
  EXPECT_EQ(matcher.find(2, kAnyTag), nullptr);
}

TEST(Matching, AProbeLeavesTheMessageAndAMatchedProbeTakesIt) {
  Matcher matcher;
  Unexpected message(0, 1);
  deliver(matcher, message);
  EXPECT_EQ(matcher.find(0, 1), &message);
  EXPECT_EQ(matcher.find(0, 1), &message);
  EXPECT_EQ(matcher.take(0, 1), &message);
  EXPECT_FALSE(message.queued());
  Posted receive(0, 1);
  EXPECT_EQ(matcher.post(receive), nullptr);
  matcher.cancel(receive);
}

TEST(Matching, ACancelledReceiveMatchesNothingAndCanBePostedAgain) {
  Matcher matcher;
  Posted first(0, 1), second(0, 1);
  matcher.post(first);
  matcher.post(second);
  EXPECT_TRUE(matcher.cancel(first));
  EXPECT_FALSE(matcher.cancel(first));
  EXPECT_EQ(matcher.post(first), nullptr);
  EXPECT_EQ(matcher.arrive(0, 1), &second);
  EXPECT_EQ(matcher.arrive(0, 1), &first);
  EXPECT_FALSE(matcher.cancel(first));
}

TEST(Matching, ARemovedMessageIsGoneFromEveryQueue) {
  Matcher matcher;
  Unexpected first(4, 2), second(4, 2);
  deliver(matcher, first);
  deliver(matcher, second);
  EXPECT_EQ(matcher.find(kAnySource, kAnyTag), &first);
  matcher.remove(first);
  EXPECT_EQ(matcher.find(4, kAnyTag), &second);
  EXPECT_EQ(matcher.find(kAnySource, 2), &second);
  EXPECT_EQ(matcher.find(kAnySource, kAnyTag), &second);
  EXPECT_EQ(matcher.find(4, 2), &second);
  EXPECT_EQ(matcher.unexpected_count(), 1u);
}

TEST(Matching, ExtremeRanksAndTagsAreOrdinary) {
  Matcher matcher;
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  Posted receive(kMost, kMost), zero(0, 0);
  matcher.post(receive);
  matcher.post(zero);
  EXPECT_EQ(matcher.arrive(0, kMost), nullptr);
  EXPECT_EQ(matcher.arrive(kMost, kMost), &receive);
  EXPECT_EQ(matcher.arrive(0, 0), &zero);
}

TEST(Matching, ADestroyedMatcherLeavesItsEntriesUnqueued) {
  std::deque<Posted> receives;
  std::deque<Unexpected> messages;
  {
    Matcher matcher;
    for (int i = 0; i < 50; ++i)
      matcher.post(receives.emplace_back(1000 + i, i % 3));
    matcher.post(receives.emplace_back(2000, kAnyTag));
    for (int i = 0; i < 50; ++i)
      deliver(matcher, messages.emplace_back(i, i % 3));
    EXPECT_NE(matcher.find(kAnySource, 1), nullptr);
    EXPECT_NE(matcher.find(7, kAnyTag), nullptr);
    EXPECT_NE(matcher.find(kAnySource, kAnyTag), nullptr);
  }
  for (const Posted& receive : receives)
    EXPECT_FALSE(receive.posted());
  for (const Unexpected& message : messages)
    EXPECT_FALSE(message.queued());

  Matcher next;  // and ready for another one
  EXPECT_EQ(next.post(receives.front()), nullptr);
  next.enqueue(messages.front());
  EXPECT_EQ(next.posted_count(), 1u);
}

TEST(Matching, VisitingInOrderMayRemoveTheVisitedEntry) {
  Matcher matcher;
  std::deque<Posted> receives;
  std::deque<Unexpected> messages;
  for (int i = 0; i < 40; ++i)
    matcher.post(receives.emplace_back(100, i % 7));
  for (int i = 0; i < 40; ++i)
    deliver(matcher, messages.emplace_back(i % 5, i % 7));
  std::size_t at = 0;
  matcher.for_each_posted([&](Posted& receive) {
    EXPECT_EQ(&receive, &receives[at++]);
    matcher.cancel(receive);
  });
  EXPECT_EQ(at, receives.size());
  at = 0;
  matcher.for_each_unexpected([&](Unexpected& message) {
    EXPECT_EQ(&message, &messages[at++]);
    matcher.remove(message);
  });
  EXPECT_EQ(at, messages.size());
  EXPECT_EQ(matcher.posted_count() + matcher.unexpected_count(), 0u);
}

TEST(Matching, MillionsOfDistinctTagsUseTheMemoryOfTheFewThatAreOutstanding) {
  Matcher matcher;
  Posted receive;
  Unexpected message;
  for (std::int32_t i = 0; i < 2'000'000; ++i) {
    receive.source = message.source = i % 1024;
    receive.tag = message.tag = i;
    if (i % 2 == 0) {
      ASSERT_EQ(matcher.post(receive), nullptr);
      ASSERT_EQ(matcher.arrive(message.source, message.tag), &receive);
    } else {
      ASSERT_EQ(deliver(matcher, message), nullptr);
      ASSERT_EQ(matcher.post(receive), &message);
    }
  }
  EXPECT_LE(matcher.bin_capacity(), 64u);
}

TEST(Matching, BinsAreReusedOnceTheirMostWasReached) {
  constexpr int kOutstanding = 3000;
  Matcher matcher;
  std::deque<Posted> receives(kOutstanding);
  std::size_t capacity = 0;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < kOutstanding; ++i) {
      receives[i].source = i;
      receives[i].tag = round;
      matcher.post(receives[i]);
    }
    for (int i = 0; i < kOutstanding; ++i)
      ASSERT_EQ(matcher.arrive(i, round), &receives[i]);
    if (round == 2) capacity = matcher.bin_capacity();
  }
  EXPECT_EQ(matcher.bin_capacity(), capacity);
}

}  // namespace
}  // namespace mooncake_mpi
