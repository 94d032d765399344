// Prints the time of one post and one arrival (both orders), with other receives or messages
// outstanding. Usage: matching_benchmark [rounds]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>

#include "matching/matcher.h"

namespace {

using namespace mooncake_mpi;

// What else waits in the queues while the measured pair goes through.
enum class Others { kReceives, kMessages };

class Bench {
 public:
  Bench(Others others, int count) {
    for (int i = 0; i < count; ++i) {
      if (others == Others::kReceives) {
        matcher_.post(receives_.emplace_back(1 + i % 16, 100 + i));
      } else {
        matcher_.enqueue(messages_.emplace_back(1 + i % 16, 100 + i));
      }
    }
  }

  // Nanoseconds of one receive posted first, then matched by its message.
  double expected(int rounds, std::int32_t source, std::int32_t tag) {
    Posted receive(source, tag);
    return time(rounds, [&] {
      matcher_.post(receive);
      if (matcher_.arrive(0, 1) != &receive) std::abort();
    });
  }

  // Nanoseconds of one message queued first, then taken by its receive.
  double unexpected(int rounds, std::int32_t source, std::int32_t tag) {
    Posted receive(source, tag);
    Unexpected message(0, 1);
    return time(rounds, [&] {
      if (matcher_.arrive(0, 1) != nullptr) std::abort();
      matcher_.enqueue(message);
      if (matcher_.post(receive) != &message) std::abort();
    });
  }

 private:
  template <class Operation>
  static double time(int rounds, Operation&& operation) {
    for (int i = 0; i < rounds / 10; ++i)
      operation();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < rounds; ++i)
      operation();
    const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - start;
    return taken.count() / rounds;
  }

  std::deque<Posted> receives_;
  std::deque<Unexpected> messages_;
  Matcher matcher_;
};

void print_row(Others others, int count, int rounds) {
  // The wildcard receives would take the other messages, so those rows name the source or tag.
  Bench bench(others, count);
  std::printf("%-9s %7d %10.1f %10.1f %10.1f %10.1f %10.1f\n",
              others == Others::kReceives ? "receives" : "messages", count,
              bench.expected(rounds, 0, 1), bench.unexpected(rounds, 0, 1),
              bench.expected(rounds, kAnySource, 1), bench.unexpected(rounds, kAnySource, 1),
              bench.unexpected(rounds, 0, kAnyTag));
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 2'000'000;
  std::printf("ns per post + arrive\n%-17s %10s %10s %10s %10s %10s\n", "others outstanding",
              "expected", "unexpected", "any source", "unexp. a.s.", "unexp. a.t.");
  for (const Others others : {Others::kReceives, Others::kMessages}) {
    for (const int count : {0, 1, 100, 10'000})
      print_row(others, count, rounds);
  }
  return 0;
}
