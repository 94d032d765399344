// The matcher does what the model does, under random operations. One thread.
#include "matching_model.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "effort.h"
#include "matching/matcher.h"

namespace mooncake_mpi::testing {
namespace {

struct Receive : Posted {
  Receive(int name, Envelope wanted) : Posted(wanted.source, wanted.tag), number(name) {}
  int number;
};

struct Message : Unexpected {
  Message(int name, Envelope envelope) : Unexpected(envelope.source, envelope.tag), number(name) {}
  int number;
};

// How the random operations are drawn.
struct Mix {
  const char* name;
  std::uint64_t seed;
  int ranks;
  int tags;
  double wildcards;  // share of receives and probes with a wildcard source, and tag
  double receives;   // share of posts among posts and arrivals: above a half, receives pile up
};

void PrintTo(const Mix& mix, std::ostream* out) {
  *out << mix.name << " seed " << mix.seed;
}

class RandomMatching : public ::testing::TestWithParam<Mix> {
 protected:
  RandomMatching() : random_(GetParam().seed), matcher_(GetParam().seed) {}

  int draw(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }
  bool chance(double share) { return std::bernoulli_distribution(share)(random_); }

  Envelope message_envelope() { return {draw(GetParam().ranks), draw(GetParam().tags)}; }

  Envelope wanted_envelope() {
    Envelope wanted = message_envelope();
    if (chance(GetParam().wildcards)) wanted.source = kAnySource;
    if (chance(GetParam().wildcards)) wanted.tag = kAnyTag;
    return wanted;
  }

  static std::optional<int> number_of(const Unexpected* message) {
    if (message == nullptr) return std::nullopt;
    return static_cast<const Message*>(message)->number;
  }
  static std::optional<int> number_of(const Posted* receive) {
    if (receive == nullptr) return std::nullopt;
    return static_cast<const Receive*>(receive)->number;
  }

  void post() {
    const int number = static_cast<int>(receives_.size());
    const Envelope wanted = wanted_envelope();
    receives_.push_back(std::make_unique<Receive>(number, wanted));
    ASSERT_EQ(number_of(matcher_.post(*receives_.back())), model_.post(number, wanted));
  }

  void arrive() {
    const int number = static_cast<int>(messages_.size());
    const Envelope envelope = message_envelope();
    messages_.push_back(std::make_unique<Message>(number, envelope));
    Posted* receive = matcher_.arrive(envelope.source, envelope.tag);
    if (receive == nullptr) matcher_.enqueue(*messages_.back());
    ASSERT_EQ(number_of(receive), model_.arrive(number, envelope));
  }

  void probe() {
    const Envelope wanted = wanted_envelope();
    ASSERT_EQ(number_of(matcher_.find(wanted.source, wanted.tag)), model_.find(wanted));
  }

  void matched_probe() {
    const Envelope wanted = wanted_envelope();
    ASSERT_EQ(number_of(matcher_.take(wanted.source, wanted.tag)), model_.take(wanted));
  }

  // Of any receive so far, matched and cancelled ones too.
  void cancel() {
    if (receives_.empty()) return;
    Receive& receive = *receives_[draw(static_cast<int>(receives_.size()))];
    ASSERT_EQ(matcher_.cancel(receive), model_.cancel(receive.number));
    ASSERT_FALSE(receive.posted());
  }

  void remove() {
    const std::vector<int> queued = model_.unexpected();
    if (queued.empty()) return;
    Message& message = *messages_[queued[draw(static_cast<int>(queued.size()))]];
    ASSERT_TRUE(message.queued());
    matcher_.remove(message);
    ASSERT_TRUE(model_.remove(message.number));
    ASSERT_FALSE(message.queued());
  }

  void compare_queues() {
    std::vector<int> posted;
    matcher_.for_each_posted([&](Posted& receive) { posted.push_back(*number_of(&receive)); });
    std::vector<int> unexpected;
    matcher_.for_each_unexpected(
        [&](Unexpected& message) { unexpected.push_back(*number_of(&message)); });
    ASSERT_EQ(posted, model_.posted());
    ASSERT_EQ(unexpected, model_.unexpected());
  }

  void step() {
    const int kind = draw(100);
    if (kind < 75) {
      chance(GetParam().receives) ? post() : arrive();
    } else if (kind < 85) {
      probe();
    } else if (kind < 90) {
      matched_probe();
    } else if (kind < 98) {
      cancel();
    } else {
      remove();
    }
  }

  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Receive>> receives_;
  std::vector<std::unique_ptr<Message>> messages_;
  Matcher matcher_;
  MatchingModel model_;
};

TEST_P(RandomMatching, GivesTheSameMatchesAsTheModel) {
  constexpr int kOperations = effort(25'000);
  for (int i = 0; i < kOperations; ++i) {
    ASSERT_NO_FATAL_FAILURE(step()) << "operation " << i;
    ASSERT_EQ(matcher_.posted_count(), model_.posted_count()) << "operation " << i;
    ASSERT_EQ(matcher_.unexpected_count(), model_.unexpected_count()) << "operation " << i;
    if (i % 1000 == 0) {
      ASSERT_NO_FATAL_FAILURE(compare_queues());
    }
  }
  ASSERT_NO_FATAL_FAILURE(compare_queues());
}

INSTANTIATE_TEST_SUITE_P(Mixes, RandomMatching,
                         ::testing::Values(Mix{"NoWildcards", 1, 4, 8, 0.0, 0.5},
                                           Mix{"FewWildcards", 2, 4, 8, 0.1, 0.5},
                                           Mix{"ManyWildcards", 3, 4, 8, 0.5, 0.5},
                                           Mix{"OneEnvelope", 4, 1, 1, 0.2, 0.5},
                                           Mix{"ManyEnvelopes", 5, 64, 1000, 0.02, 0.5},
                                           Mix{"ReceivesPileUp", 6, 3, 20, 0.1, 0.55},
                                           Mix{"MessagesPileUp", 7, 3, 20, 0.1, 0.45},
                                           Mix{"MessagesPileUpUnprobed", 8, 8, 4, 0.001, 0.4},
                                           Mix{"ManyTagsPileUp", 9, 2, 5000, 0.01, 0.5}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace mooncake_mpi::testing
