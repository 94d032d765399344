// What calls wait for, on the board that other processes read, and in words. Engine lock held for
// every call.
#include "engine/waits.h"

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "protocol/protocol.h"

namespace mooncake_mpi {
namespace {

constexpr std::size_t kHeads = 5;

std::string label_of(const Context* context) {
  if (context == nullptr) return "a freed communicator";
  return context->label.empty() ? "communicator #" + std::to_string(context->number)
                                : context->label;
}

std::string rank_text(std::int32_t rank) {
  return rank == kAnySource ? "any rank" : "rank " + std::to_string(rank);
}

std::string tag_text(std::int32_t tag) {
  return tag == kAnyTag ? "any tag" : "tag " + std::to_string(tag);
}

// The first few of a list, and how many there are.
class Heads {
 public:
  explicit Heads(const char* title) : title_(title) {}
  void add(const std::string& line) {
    if (count_++ < kHeads) lines_ += "    " + line + "\n";
  }
  std::string text() const {
    if (count_ == 0) return {};
    return "  " + std::string(title_) + ": " + std::to_string(count_) + "\n" + lines_ +
           (count_ > kHeads ? "    ...\n" : "");
  }

 private:
  const char* title_;
  std::size_t count_ = 0;
  std::string lines_;
};

}  // namespace

std::uint64_t Waits::begin(const WaitRecord& record) {
  waits_.emplace(++next_, record);
  write_board();
  return next_;
}

void Waits::end(std::uint64_t id) {
  waits_.erase(id);
  write_board();
}

std::vector<Awaited> Waits::awaited(std::uint64_t id) const {
  constexpr std::size_t kMost = 8;
  std::vector<Awaited> messages;
  const auto wait = waits_.find(id);
  if (wait == waits_.end()) return messages;
  const WaitRecord& record = wait->second;
  if (record.probed != nullptr) {
    messages.push_back({record.probed->number, record.source, record.tag});
  }
  for (const std::uint64_t operation_id : record.operations) {
    const Operation* operation = protocol_.operations().find(operation_id);
    if (operation == nullptr || operation->stage != Operation::Stage::kPosted) continue;
    if (operation->channel != MatchChannel::kMessages || messages.size() == kMost) continue;
    messages.push_back({operation->context_number, operation->source, operation->tag});
  }
  return messages;
}

std::vector<std::uint64_t> Waits::ids() const {
  std::vector<std::uint64_t> ids;
  for (const auto& [id, record] : waits_)
    ids.push_back(id);
  return ids;
}

void Waits::found_in_library(std::uint64_t id, const LibraryMessage& message) {
  const auto wait = waits_.find(id);
  if (wait == waits_.end()) return;
  wait->second.library = message;
  write_board();
}

WaitEntry Waits::describe(const WaitRecord& record, const Operation* operation) const {
  WaitEntry wait;
  wait.since_ns = record.since_ns;
  wait.one_of_many = record.one_of_many && record.operations.size() > 1;
  copy_text(wait.call, record.call);
  const Context* context = record.probed;
  const Peer* peer = nullptr;
  std::int32_t source = record.source;
  std::int32_t tag = record.tag;
  wait.kind = WaitEntry::Kind::kProbe;
  if (operation != nullptr && operation->kind == Operation::Kind::kSend) {
    wait.kind = WaitEntry::Kind::kSend;
    context = protocol_.contexts().find(operation->context_number);
    peer = operation->peer;
    source = operation->completion.dest;
    tag = operation->header.tag;
  } else if (operation != nullptr) {
    wait.kind = WaitEntry::Kind::kReceive;
    context = operation->context;
    peer = operation->peer;
    source = operation->source;
    tag = operation->tag;
  } else if (context != nullptr && source != kAnySource) {
    peer = context->members[static_cast<std::size_t>(source)].peer;
    if (peer->is_stranger) peer = nullptr;
  }
  const LibraryMessage& other = record.library;
  if ((source == kAnySource || source == other.source) && (tag == kAnyTag || tag == other.tag) &&
      wait.kind != WaitEntry::Kind::kSend) {
    wait.library = other;
  }
  if (operation != nullptr) wait.bytes = operation->buffer.bytes;
  if (peer != nullptr) wait.peer = peer->address.uid;
  if (context != nullptr) wait.rank = context->rank;
  wait.peer_rank = source == kAnySource ? -1 : source;
  wait.tag = tag == kAnyTag ? -1 : tag;
  copy_text(wait.communicator, label_of(context));
  return wait;
}

std::vector<WaitEntry> Waits::describe_all(const WaitRecord& record) const {
  std::vector<WaitEntry> waits;
  if (record.probed != nullptr) waits.push_back(describe(record, nullptr));
  for (const std::uint64_t id : record.operations) {
    const Operation* operation = protocol_.operations().find(id);
    if (operation != nullptr && operation->stage != Operation::Stage::kDone) {
      waits.push_back(describe(record, operation));
    }
  }
  return waits;
}

void Waits::write_board() {
  board_->version.fetch_add(1, std::memory_order_acq_rel);
  board_->count = 0;
  for (const auto& [id, record] : waits_) {
    for (const WaitEntry& wait : describe_all(record)) {
      if (board_->count < HangBoard::kEntries) board_->entries[board_->count++] = wait;
    }
  }
  board_->version.fetch_add(1, std::memory_order_release);
}

std::string Waits::explain(pid_t process, std::string_view elsewhere) const {
  const std::uint64_t now = now_ns();
  std::string text = "mooncake_mpi: rank " + std::to_string(board_->rank) + " (process " +
                     std::to_string(process) + ") ";
  if (!waits_.empty()) {
    text += "waits\n";
  } else if (elsewhere.empty()) {
    text += "is in no call that waits\n";
  } else {
    text.append("is in the MPI library").append(elsewhere).append("\n");
  }
  for (const auto& [id, record] : waits_) {
    const std::vector<WaitEntry> waits = describe_all(record);
    for (std::size_t i = 0; i < waits.size() && i < kHeads; ++i)
      text += "  " + mooncake_mpi::describe(waits[i], now) + "\n";
    if (waits.size() > kHeads) {
      text += "  ... " + std::to_string(waits.size() - kHeads) + " more\n";
    }
  }
  Heads posted("posted receives");
  Heads unexpected("unexpected messages");
  Heads sends("sends under way");
  protocol_.contexts().for_each([&](Context& context) {
    for (const auto& matcher : context.matchers) {
      if (matcher == nullptr) continue;
      matcher->for_each_posted([&](const Posted& receive) {
        posted.add("from " + rank_text(receive.source) + ", " + tag_text(receive.tag) + ", " +
                   label_of(&context));
      });
      matcher->for_each_unexpected([&](const Unexpected& message) {
        const auto& arrived = static_cast<const UnexpectedMessage&>(message);
        unexpected.add("from " + rank_text(message.source) + ", " + tag_text(message.tag) + ", " +
                       std::to_string(arrived.header.length()) + " bytes, " + label_of(&context));
      });
    }
  });
  protocol_.operations().for_each_live([&](const Operation& operation) {
    if (operation.kind != Operation::Kind::kSend || operation.stage == Operation::Stage::kDone) {
      return;
    }
    sends.add("to " + rank_text(operation.completion.dest) + ", " + tag_text(operation.header.tag) +
              ", " + std::to_string(operation.buffer.bytes) + " bytes, " +
              label_of(protocol_.contexts().find(operation.context_number)));
  });
  return text + posted.text() + unexpected.text() + sends.text();
}

}  // namespace mooncake_mpi
