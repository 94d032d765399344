// Packets that no honest peer sends, over the channel that a rank has. One thread plays every rank.
#include <sys/mman.h>

#include <cstdlib>

#include "play.h"
#include "wire/copy_notes.h"
#include "wire/payload.h"
#include "wire/verbs.h"

namespace mooncake_mpi::testing {
namespace {

// Memory that a lying peer may name as its own, with nothing around it: what goes past its end is
// refused by the kernel.
class Arena {
 public:
  static constexpr std::size_t kBytes = 1 << 20;
  Arena() {
    void* whole = mmap(nullptr, 3 * kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED) std::abort();
    address_ = static_cast<std::byte*>(whole) + kBytes;
    if (mprotect(address_, kBytes, PROT_READ | PROT_WRITE) != 0) std::abort();
  }
  std::uint64_t address() const { return reinterpret_cast<std::uint64_t>(address_); }

 private:
  std::byte* address_ = nullptr;
};

const Arena& arena() {
  static const auto* made = new Arena;  // of the process, as a peer's memory is
  return *made;
}

constexpr std::uint32_t kChunks[] = {0, 1, 4'096, 16'384, 1u << 30};

}  // namespace

std::uint64_t Play::some_id() {
  switch (choices_.below(4)) {
    case 0:
      return choices_.word();
    case 1: {
      if (live_.empty()) return 0;
      const Live& live = live_[choices_.below(static_cast<std::uint32_t>(live_.size()))];
      return live.operation->id();
    }
    default:
      return std::uint64_t{1 + choices_.below(6)} << 32 | choices_.below(8);
  }
}

std::uint64_t Play::some_address() {
  constexpr std::uint64_t kNowhere[] = {0, 16, 0x1000, UINT64_MAX - 4'096, UINT64_MAX};
  if (choices_.below(4) == 0) return choices_.of(kNowhere);
  constexpr std::uint64_t kOffsets[] = {0, 1, 64, 4'096, Arena::kBytes / 2, Arena::kBytes - 100};
  return arena().address() + choices_.of(kOffsets);
}

std::uint64_t Play::some_length() {
  constexpr std::uint64_t kOdd[] = {0, 1, UINT32_MAX, UINT64_MAX, 1ull << 40, Arena::kBytes};
  return choices_.below(3) == 0 ? choices_.of(kOdd) : choices_.of(kSizes);
}

wire::Header Play::some_header(int from) {
  const Context& victim = job_[0].context();
  wire::Header header{};
  header.kind = static_cast<wire::Kind>(1 + choices_.below(9));
  header.flags = static_cast<std::uint8_t>(choices_.below(3) == 0 ? choices_.below(16) : 0);
  header.context =
      choices_.below(8) == 0
          ? static_cast<std::uint32_t>(choices_.word())
          : ContextTable::with_channel(
                victim.number, static_cast<MatchChannel>(
                                   choices_.below(8) == 0 ? choices_.below(kMatchChannels) : 0));
  header.source = choices_.below(8) == 0 ? static_cast<int>(choices_.below(9)) : from;
  return header;
}

std::uint64_t Play::some_region() {
  return choices_.below(3) == 0 ? choices_.word() : choices_.below(5);
}

// A lane's key of the kind that it may have, of another's, or of none.
void Play::put_offers() {
  wire::Offers offers;
  for (std::uint32_t left = choices_.below(3); left != 0; --left) {
    const wire::Place place{some_address(), some_region()};
    wire::RemoteKeys keys{.address = some_address(), .rails = choices_.below(5)};
    const auto lane = static_cast<wire::LaneId>(choices_.below(5));
    offers.add(lane, choices_.below(2) == 0 ? std::as_bytes(std::span(&place, 1))
                                            : std::as_bytes(std::span(&keys, 1)));
  }
  body_.insert(body_.end(), offers.bytes().begin(), offers.bytes().end());
  put_noise(choices_.below(8) == 0 ? choices_.below(9) : 0);
}

void Play::put_note() {
  put(wire::Note{some_id(), choices_.below(5), 0});
  const auto add = [this](const auto& note) {
    const auto bytes = std::as_bytes(std::span(&note, 1));
    body_.insert(body_.end(), bytes.begin(), bytes.end());
  };
  switch (choices_.below(4)) {
    case 0:
      return add(wire::ChunksFailed{.first = choices_.below(20), .count = choices_.below(20)});
    case 1:
      return put_noise(choices_.below(wire::kMaxNoteBytes + 1));
    default:
      add(wire::ShareCopy{.job = choices_.below(5),
                          .receive_id = some_id(),
                          .place = {some_address(), some_region()},
                          .length = some_length(),
                          .chunk_bytes = choices_.of(kChunks),
                          .generation = choices_.below(5)});
  }
}

// What follows a header of that kind; the length that the header is to claim.
std::uint64_t Play::put_body(wire::Kind kind) {
  std::uint64_t length = 0;
  const auto data_bytes = static_cast<std::size_t>(choices_.below(2'000));
  switch (kind) {
    case wire::Kind::kEager:
      put_noise(data_bytes);
      length = choices_.below(3) == 0 ? some_length() : body_.size();
      break;
    case wire::Kind::kEagerSync:
      put(wire::EagerSync{some_id()});
      put_noise(data_bytes);
      length = data_bytes;
      break;
    case wire::Kind::kRts:
      put(wire::Rts{some_id()});
      put_offers();
      length = some_length();
      break;
    case wire::Kind::kCts: {
      const std::uint64_t wanted = some_length();
      const std::uint64_t offset = choices_.below(4) == 0 ? some_length() : 0;
      put(wire::Cts{some_id(), some_id(), offset, wanted,
                    choices_.below(4) == 0 ? some_length() : offset + wanted});
      put_offers();
      break;
    }
    case wire::Kind::kData:
      put(wire::Data{some_id(), some_length()});
      put_noise(data_bytes);
      break;
    case wire::Kind::kFin:
      // Of a revocation the play would have to know: a lane's thread hears of it between two calls.
      put(wire::Fin{some_id(), choices_.below(wire::kRevokedThere), 0});
      break;
    case wire::Kind::kAck:
      put(wire::Ack{some_id()});
      break;
    case wire::Kind::kNote:
      put_note();
      break;
    case wire::Kind::kCredit:
      put(wire::Credit{some_length()});
      break;
  }
  return length;
}

// A packet of rank `from` to rank 0, over the channel that it has.
void Play::lie() {
  const int from = 1 + static_cast<int>(choices_.below(kRanks - 1));
  if (dead_[from]) return;
  Party& liar = job_[from];
  body_.clear();
  wire::Header header = some_header(from);
  const std::uint64_t length = put_body(header.kind);
  const bool message = header.kind == wire::Kind::kEager || header.kind == wire::Kind::kEagerSync ||
                       header.kind == wire::Kind::kRts;
  header.tag = message ? tag() : 0;
  header.set_length(message ? length : 0);
  header.payload_bytes = static_cast<std::uint32_t>(body_.size());
  liar.inspect([&](Protocol&) {
    Peer* peer = liar.context().members[0].peer;
    if (peer == nullptr || peer->channel == nullptr) return;
    if (body_.size() > peer->channel->max_payload_bytes()) return;
    // A lane that is ours checks the header of what it takes; so does that of a liar's.
    if (wire::validate(header, sizeof header + body_.size()) != wire::Error::kNone) return;
    peer->channel->try_send(header, {}, body_);
  });
}

}  // namespace mooncake_mpi::testing
