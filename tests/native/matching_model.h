// Matching as the MPI standard words it: two lists in order, searched from the front.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <vector>

#include "matching/envelope.h"

namespace mooncake_mpi::testing {

class MatchingModel {
 public:
  struct Entry {
    int number;  // the test's name for the receive or message
    Envelope envelope;
  };

  // The number of the matched message, or nothing: then the receive is queued.
  std::optional<int> post(int number, Envelope wanted) {
    std::optional<int> message = take(wanted);
    if (!message) posted_.push_back({number, wanted});
    return message;
  }

  // The number of the matched receive, or nothing: then the message is queued.
  std::optional<int> arrive(int number, Envelope message) {
    for (auto at = posted_.begin(); at != posted_.end(); ++at) {
      if (!accepts(at->envelope, message)) continue;
      const int receive = at->number;
      posted_.erase(at);
      return receive;
    }
    unexpected_.push_back({number, message});
    return std::nullopt;
  }

  std::optional<int> find(Envelope wanted) const {
    for (const Entry& message : unexpected_) {
      if (accepts(wanted, message.envelope)) return message.number;
    }
    return std::nullopt;
  }

  std::optional<int> take(Envelope wanted) {
    const std::optional<int> message = find(wanted);
    if (message) remove(*message);
    return message;
  }

  bool cancel(int receive) {
    return posted_.remove_if([&](const Entry& entry) { return entry.number == receive; }) == 1;
  }

  bool remove(int message) {
    return unexpected_.remove_if([&](const Entry& entry) { return entry.number == message; }) == 1;
  }

  std::vector<int> posted() const { return numbers(posted_); }
  std::vector<int> unexpected() const { return numbers(unexpected_); }
  std::size_t posted_count() const { return posted_.size(); }
  std::size_t unexpected_count() const { return unexpected_.size(); }

 private:
  static std::vector<int> numbers(const std::list<Entry>& entries) {
    std::vector<int> all;
    for (const Entry& entry : entries)
      all.push_back(entry.number);
    return all;
  }

  std::list<Entry> posted_;
  std::list<Entry> unexpected_;
};

}  // namespace mooncake_mpi::testing
