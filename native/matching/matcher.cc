// The two queues of a matching space: posting, arriving, probing and cancelling. Under the lock
// that protects the context, which the caller holds.
#include "matching/matcher.h"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace mooncake_mpi {

Matcher::Matcher(std::uint64_t seed) : bins_(seed) {}

Matcher::~Matcher() {
  bins_.for_each([this](std::int32_t source, std::int32_t tag, Bin& bin) {
    while (!bin.posted.empty())
      bin.posted.front().unlink();
    while (!bin.unexpected.empty()) {
      remove(message_of(bin.unexpected.front(), selection(source, tag)));
    }
  });
}

// Not secret, only hard to collide with by accident in every process of a job at once.
std::uint64_t Matcher::random_seed() {
  static std::atomic<std::uint64_t> count{0};
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  const std::uint64_t number = count.fetch_add(1, std::memory_order_relaxed) + 1;
  return static_cast<std::uint64_t>(now) ^ reinterpret_cast<std::uintptr_t>(&count) ^
         (number * 0xd1342543de82ef95u);
}

Unexpected* Matcher::post(Posted& receive) {
  const Selection selected = selection(receive.source, receive.tag);
  if (!indexed_[selected]) [[unlikely]]
    build_index(selected);
  Bin& bin = bins_.get(receive.source, receive.tag);
  if (!bin.unexpected.empty()) {
    Unexpected& message = message_of(bin.unexpected.front(), selected);
    remove(message);
    return &message;
  }
  receive.sequence_ = next_sequence_++;
  receive.append_to(bin.posted);
  ++posted_count_;
  ++posted_of_[selected];
  return nullptr;
}

Posted* Matcher::arrive(std::int32_t source, std::int32_t tag) {
  Posted* oldest = nullptr;
  if (posted_of_[kExact] != 0) {
    const Bin* bin = bins_.find(source, tag);
    if (bin != nullptr && !bin->posted.empty()) oldest = &Posted::entry(bin->posted.front());
  }
  if (posted_count_ != posted_of_[kExact]) oldest = older_wildcard(oldest, source, tag);
  if (oldest != nullptr) unlink(*oldest);
  return oldest;
}

Posted* Matcher::older_wildcard(Posted* best, std::int32_t source, std::int32_t tag) {
  const auto consider = [&](Selection selected, std::int32_t bin_source, std::int32_t bin_tag) {
    if (posted_of_[selected] == 0) return;
    const Bin* bin = bins_.find(bin_source, bin_tag);
    if (bin == nullptr || bin->posted.empty()) return;
    Posted* front = &Posted::entry(bin->posted.front());
    if (best == nullptr || front->sequence_ < best->sequence_) best = front;
  };
  consider(kSourceWild, kAnySource, tag);
  consider(kTagWild, source, kAnyTag);
  consider(kBothWild, kAnySource, kAnyTag);
  return best;
}

void Matcher::unlink(Posted& receive) {
  const Selection selected = selection(receive.source, receive.tag);
  receive.QueueLink::unlink();
  --posted_count_;
  --posted_of_[selected];
}

bool Matcher::cancel(Posted& receive) {
  if (!receive.posted()) return false;
  unlink(receive);
  return true;
}

void Matcher::enqueue(Unexpected& message) {
  message.sequence_ = next_sequence_++;
  message.QueueHook<Unexpected, kExact>::append_to(
      bins_.get(message.source, message.tag).unexpected);
  ++unexpected_count_;
  if (indexed_for_wildcards_) link_for_wildcards(message);
}

void Matcher::requeue(Unexpected& message) {
  message.sequence_ = --first_sequence_;
  link(message, kExact, true);
  ++unexpected_count_;
  if (indexed_for_wildcards_) link_for_wildcards(message, true);
}

void Matcher::link_for_wildcards(Unexpected& message, bool first) {
  try {
    for (const Selection selected : {kSourceWild, kTagWild, kBothWild}) {
      if (indexed_[selected]) link(message, selected, first);
    }
  } catch (...) {  // no memory for a bin
    remove(message);
    throw;
  }
}

Unexpected* Matcher::find(std::int32_t source, std::int32_t tag) {
  if (unexpected_count_ == 0) return nullptr;
  const Selection selected = selection(source, tag);
  if (!indexed_[selected]) [[unlikely]]
    build_index(selected);
  const Bin* bin = bins_.find(source, tag);
  if (bin == nullptr || bin->unexpected.empty()) return nullptr;
  return &message_of(bin->unexpected.front(), selected);
}

Unexpected* Matcher::take(std::int32_t source, std::int32_t tag) {
  Unexpected* message = find(source, tag);
  if (message != nullptr) remove(*message);
  return message;
}

void Matcher::remove(Unexpected& message) {
  message.QueueHook<Unexpected, kExact>::unlink();
  --unexpected_count_;
  if (!indexed_for_wildcards_) return;
  message.unlink_if_linked<kSourceWild>();
  message.unlink_if_linked<kTagWild>();
  message.unlink_if_linked<kBothWild>();
}

Unexpected& Matcher::message_of(QueueLink& link, Selection selection) {
  switch (selection) {
    case kSourceWild:
      return QueueHook<Unexpected, kSourceWild>::entry(link);
    case kTagWild:
      return QueueHook<Unexpected, kTagWild>::entry(link);
    case kBothWild:
      return QueueHook<Unexpected, kBothWild>::entry(link);
    case kExact:
      break;
  }
  return QueueHook<Unexpected, kExact>::entry(link);
}

void Matcher::link(Unexpected& message, Selection selection, bool first) {
  const auto put = [first](QueueLink& link, QueueLink& list) {
    first ? link.prepend_to(list) : link.append_to(list);
  };
  switch (selection) {
    case kExact:
      put(static_cast<QueueHook<Unexpected, kExact>&>(message),
          bins_.get(message.source, message.tag).unexpected);
      break;
    case kSourceWild:
      put(static_cast<QueueHook<Unexpected, kSourceWild>&>(message),
          bins_.get(kAnySource, message.tag).unexpected);
      break;
    case kTagWild:
      put(static_cast<QueueHook<Unexpected, kTagWild>&>(message),
          bins_.get(message.source, kAnyTag).unexpected);
      break;
    case kBothWild:
      put(static_cast<QueueHook<Unexpected, kBothWild>&>(message),
          bins_.get(kAnySource, kAnyTag).unexpected);
      break;
  }
}

// Once per selection and matcher: programs that never use a wildcard pay nothing for them.
void Matcher::build_index(Selection selection) {
  for (Unexpected* message : unexpected_in_order())
    link(*message, selection);
  indexed_[selection] = true;
  indexed_for_wildcards_ = true;
}

std::vector<Posted*> Matcher::posted_in_order() const {
  std::vector<Posted*> all;
  all.reserve(posted_count_);
  bins_.for_each([&all](std::int32_t, std::int32_t, const Bin& bin) {
    for (QueueLink* link = bin.posted.next(); link != &bin.posted; link = link->next()) {
      all.push_back(&Posted::entry(*link));
    }
  });
  std::sort(all.begin(), all.end(),
            [](const Posted* a, const Posted* b) { return a->sequence_ < b->sequence_; });
  return all;
}

std::vector<Unexpected*> Matcher::unexpected_in_order() const {
  std::vector<Unexpected*> all;
  all.reserve(unexpected_count_);
  bins_.for_each([&all](std::int32_t source, std::int32_t tag, const Bin& bin) {
    if (selection(source, tag) != kExact) return;
    const QueueLink& list = bin.unexpected;
    for (QueueLink* link = list.next(); link != &list; link = link->next()) {
      all.push_back(&message_of(*link, kExact));
    }
  });
  std::sort(all.begin(), all.end(),
            [](const Unexpected* a, const Unexpected* b) { return a->sequence_ < b->sequence_; });
  return all;
}

}  // namespace mooncake_mpi
