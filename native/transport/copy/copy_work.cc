// All copies of one lane, and whose turn it is: own copies first, then help for the peers' ones.
// Engine lock held for every call.
#include <new>

#include "transport/copy/copy_mover.h"

namespace mooncake_mpi {

CopyWork::~CopyWork() {
  while (Copy* copy = spare_.pop_front())
    delete copy;
}

Copy* CopyWork::take(CopyMover& mover, Copy::Role role, const Move& move,
                     const RemoteMemory& remote) noexcept {
  if (spare_.empty()) [[unlikely]]
    add_spare();
  Copy* copy = spare_.pop_front();
  if (copy == nullptr) return nullptr;
  copy->begin(mover, role, move, remote);
  ++under_way_;
  if (role == Copy::Role::kWrite) ++writes_;
  return copy;
}

void CopyWork::add_spare() noexcept {
  if (Copy* copy = new (std::nothrow) Copy) spare_.push_back(*copy);
}

wire::Place CopyWork::place_of(const std::byte* address, std::uint64_t bytes) noexcept {
  const SharedPool* pool = config_.pool;
  return {reinterpret_cast<std::uint64_t>(address),
          pool != nullptr ? pool->region_of(address, bytes, seen_) : 0};
}

void CopyWork::give_back(Copy& copy) noexcept {
  List::remove(copy);
  recycle(copy);
}

void CopyWork::recycle(Copy& copy) noexcept {
  --under_way_;
  if (copy.undecided) [[unlikely]]
    --copy.mover->undecided_;
  if (copy.role == Copy::Role::kWrite) --writes_;
  spare_.push_back(copy);
}

void CopyWork::drop(const CopyMover& mover) noexcept {
  for (List* list : {&copies_, &helps_, &finished_}) {
    list->for_each([&](Copy& copy) {
      if (copy.mover == &mover) give_back(copy);
    });
  }
}

// A send has one copy at most; thousands of receives may be under way beside it.
void CopyWork::drop_send(const CopyMover& mover, std::uint64_t id) noexcept {
  bool found = false;
  const auto visit = [&](Copy& copy) {
    found = copy.mover == &mover && copy.move.id == id && copy.role != Copy::Role::kRead;
    if (found) give_back(copy);
    return !found;
  };
  helps_.for_each_while(visit);
  if (!found && writes_ != 0) copies_.for_each_while(visit);
  if (!found && writes_ != 0) finished_.for_each_while(visit);
}

// Help for others comes last: two processes that receive from each other copy best when each copies
// its own. Short messages are finished one after the other, long ones take turns.
unsigned CopyWork::advance_all(PacketSink& sink) {
  std::uint64_t copied = 0;
  unsigned progress = 0;
  Copy* last = nullptr;
  copies_.for_each_while([&](Copy& copy) {
    last = &copy;
    for (std::uint64_t bytes = 1; bytes != 0 && copied < kTurnBytes;) {
      bytes = copy.mover->advance(copy, sink);
      copied += bytes;
      if (copy.mover->over(copy)) {
        copy.mover->finish(copy, sink);
        List::remove(copy);
        finished_.push_back(copy);
        last = nullptr;
        ++progress;
        break;
      }
    }
    if (copy.undecided) ++progress;  // for a moment: nobody sleeps meanwhile
    // What could not go on has to wait for the peer's part, or for room in the sink.
    return copied < kTurnBytes;
  });
  if (last != nullptr && copied >= kTurnBytes) {
    List::remove(*last);
    copies_.push_back(*last);
  }
  report(sink);
  if (copied != 0 || progress != 0) return progress + 1;
  // A chunk of each: so each side takes the same part of messages that are alike.
  helps_.for_each_while([&](Copy& copy) {
    ++progress;
    const std::uint64_t bytes = copy.mover->advance(copy, sink);
    copied += bytes;
    if (bytes == 0) {
      give_back(copy);
    } else {
      List::remove(copy);
      helps_.push_back(copy);
    }
    return copied < kTurnBytes;
  });
  return progress;
}

// What cannot be told, for want of memory, is told later.
void CopyWork::report(PacketSink& sink) {
  while (Copy* copy = finished_.pop_front()) {
    try {
      sink.on_moved(copy->mover->peer_, copy->move.id,
                    copy->unreadable ? Error::kOther : copy->error);
    } catch (...) {
      finished_.push_back(*copy);
      throw;
    }
    recycle(*copy);
  }
}

}  // namespace mooncake_mpi
