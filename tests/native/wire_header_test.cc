// Headers and payloads survive the trip, and every malformed field is named. One thread.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "wire/copy_notes.h"
#include "wire/header.h"
#include "wire/payload.h"

namespace mooncake_mpi::wire {
namespace {

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kRegion = std::uint64_t{9} << 32 | 7;

// A valid header of each kind.
Header sample(Kind kind) {
  switch (kind) {
    case Kind::kEager:
      return message_header(kind, 7, 3, 42, 100, 100);
    case Kind::kEagerSync:
      return message_header(kind, 7, 3, 42, sizeof(EagerSync) + 100, 100);
    case Kind::kRts:
      return message_header(kind, 7, 3, 42, sizeof(Rts), std::uint64_t{5} << 32);
    case Kind::kCts:
      return control_header(kind, 7, 3, sizeof(Cts));
    case Kind::kData:
      return control_header(kind, 7, 3, sizeof(Data) + 4096);
    case Kind::kFin:
      return control_header(kind, 7, 3, sizeof(Fin));
    case Kind::kAck:
      return control_header(kind, 7, 3, sizeof(Ack));
    case Kind::kNote:
      return control_header(kind, 7, 3, sizeof(Note));
    case Kind::kCredit:
      return control_header(kind, 7, 3, sizeof(Credit));
  }
  return {};
}

constexpr std::array kKinds = {Kind::kEager, Kind::kEagerSync, Kind::kRts,
                               Kind::kCts,   Kind::kData,      Kind::kFin,
                               Kind::kAck,   Kind::kNote,      Kind::kCredit};

bool is_message(Kind kind) {
  return kind == Kind::kEager || kind == Kind::kEagerSync || kind == Kind::kRts;
}

std::size_t packet_bytes(const Header& header) {
  return sizeof(Header) + header.payload_bytes;
}

Error validate(const Header& header) {
  return wire::validate(header, packet_bytes(header));
}

class EveryKind : public ::testing::TestWithParam<Kind> {
 protected:
  Header header = sample(GetParam());
};

TEST_P(EveryKind, AWellFormedHeaderIsAccepted) {
  EXPECT_EQ(validate(header), Error::kNone);
}

TEST_P(EveryKind, PaddingBehindThePacketIsAccepted) {
  EXPECT_EQ(wire::validate(header, packet_bytes(header) + 63), Error::kNone);
}

TEST_P(EveryKind, FewerBytesThanPromisedAreRejected) {
  for (std::size_t bytes = 0; bytes < packet_bytes(header); ++bytes) {
    ASSERT_EQ(wire::validate(header, bytes), Error::kShort) << bytes;
  }
}

TEST_P(EveryKind, UnknownFlagsAreRejected) {
  for (unsigned flags = 1; flags < 256; ++flags) {
    header.flags = static_cast<std::uint8_t>(flags);
    const bool known = GetParam() == Kind::kRts && (flags & ~(kMoved | kOnAdvice)) == 0;
    ASSERT_EQ(validate(header), known ? Error::kNone : Error::kFlags) << flags;
  }
}

TEST_P(EveryKind, AReservedFieldThatIsNotZeroIsRejected) {
  for (unsigned bit = 0; bit < 16; ++bit) {
    header.reserved = static_cast<std::uint16_t>(1u << bit);
    ASSERT_EQ(validate(header), Error::kReserved);
  }
}

TEST_P(EveryKind, NegativeSourcesAndTagsAreRejected) {
  for (const std::int32_t value : {-1, -2, std::numeric_limits<std::int32_t>::min()}) {
    Header bad = header;
    bad.source = value;
    EXPECT_EQ(validate(bad), Error::kSource);
    bad = header;
    bad.tag = value;
    EXPECT_EQ(validate(bad), Error::kTag);
  }
}

TEST_P(EveryKind, TagAndLengthBelongToMessagesOnly) {
  if (is_message(GetParam())) return;
  Header bad = header;
  bad.tag = 1;
  EXPECT_EQ(validate(bad), Error::kTag);
  for (const std::uint64_t length : {std::uint64_t{1}, std::uint64_t{1} << 32, kMost}) {
    bad = header;
    bad.set_length(length);
    EXPECT_EQ(validate(bad), Error::kLength);
  }
}

TEST_P(EveryKind, APayloadThatDoesNotFitIsRejected) {
  const std::uint32_t right = header.payload_bytes;
  for (std::uint32_t bytes = 0; bytes < right + 100; ++bytes) {
    header.payload_bytes = bytes;
    const Error error = validate(header);
    std::uint32_t more = 0;
    if (GetParam() == Kind::kRts || GetParam() == Kind::kCts) more = Offers::kMaxBytes;
    if (GetParam() == Kind::kNote) more = kMaxNoteBytes;
    if ((bytes >= right && bytes <= right + more) ||
        (GetParam() == Kind::kData && bytes >= sizeof(Data))) {
      ASSERT_EQ(error, Error::kNone) << bytes;
    } else {
      ASSERT_TRUE(error == Error::kPayload || error == Error::kLength) << bytes;
    }
  }
}

const char* name_of(Kind kind) {
  constexpr const char* kNames[] = {"Eager", "EagerSync", "Rts",          "Cts",   "Data",
                                    "Fin",   "Ack",       "ChunksFailed", "Credit"};
  return kNames[static_cast<std::size_t>(kind) - 1];
}

INSTANTIATE_TEST_SUITE_P(Wire, EveryKind, ::testing::ValuesIn(kKinds),
                         [](const auto& test) { return name_of(test.param); });

TEST(WireHeader, UnknownKindsAreRejected) {
  for (unsigned kind = 0; kind < 256; ++kind) {
    const auto as_kind = static_cast<Kind>(kind);
    if (std::find(kKinds.begin(), kKinds.end(), as_kind) != kKinds.end()) continue;
    Header header{};
    header.kind = as_kind;
    EXPECT_EQ(validate(header), Error::kKind) << kind;
  }
}

TEST(WireHeader, TheLengthOfAnEagerMessageIsItsPayloads) {
  Header header = sample(Kind::kEager);
  for (const std::uint64_t length :
       {std::uint64_t{0}, std::uint64_t{99}, std::uint64_t{101}, kMost}) {
    header.set_length(length);
    EXPECT_EQ(validate(header), Error::kLength);
  }
  header = message_header(Kind::kEager, 0, 0, 0, 0, 0);
  EXPECT_EQ(validate(header), Error::kNone);
}

TEST(WireHeader, LengthsKeepAll64Bits) {
  Header header{};
  for (const std::uint64_t length :
       {std::uint64_t{0}, std::uint64_t{0xffffffff}, std::uint64_t{1} << 32, kMost}) {
    header.set_length(length);
    EXPECT_EQ(header.length(), length);
    EXPECT_EQ(message_header(Kind::kRts, 0, 0, 0, 16, length).length(), length);
  }
}

TEST(WireHeader, TheLayoutIsFixed) {
  const Header header = {Kind::kCts, 0x02,       0x0403,     0x08070605, 0x0c0b0a09,
                         0x100f0e0d, 0x14131211, 0x18171615, 0x1c1b1a19};
  std::array<unsigned char, sizeof(Header)> bytes;
  std::memcpy(bytes.data(), &header, sizeof(Header));
  EXPECT_EQ(bytes[0], static_cast<unsigned char>(Kind::kCts));
  for (std::size_t i = 1; i < bytes.size(); ++i)
    EXPECT_EQ(bytes[i], i + 1);
}

TEST(WireHeader, EveryErrorHasAnExplanationOfItsOwn) {
  std::vector<std::string> seen;
  for (int i = 0; i <= static_cast<int>(Error::kOffers); ++i) {
    const std::string text = describe(static_cast<Error>(i));
    EXPECT_EQ(std::find(seen.begin(), seen.end(), text), seen.end()) << text;
    seen.push_back(text);
  }
}

// Encodes, checks the size, and decodes through `header`.
template <class Payload>
Error round_trip(const Header& header, const Payload& payload, Payload& out) {
  std::vector<std::byte> bytes(sizeof(Payload));
  EXPECT_EQ(encode(payload, bytes.data()), bytes.data() + bytes.size());
  return decode(header, bytes, out);
}

TEST(WirePayload, ValuesSurviveTheTrip) {
  Rts rts;
  EXPECT_EQ(round_trip(sample(Kind::kRts), {kMost}, rts), Error::kNone);
  EXPECT_EQ(rts.send_id, kMost);
  Cts cts;
  EXPECT_EQ(round_trip(sample(Kind::kCts), {1, 2, 3, 4, 7}, cts), Error::kNone);
  EXPECT_EQ(cts.send_id, 1u);
  EXPECT_EQ(cts.receive_id, 2u);
  EXPECT_EQ(cts.offset, 3u);
  EXPECT_EQ(cts.length, 4u);
  EXPECT_EQ(cts.total, 7u);
  Data data;
  EXPECT_EQ(round_trip(sample(Kind::kData), {1, 2}, data), Error::kNone);
  EXPECT_EQ(data.receive_id, 1u);
  EXPECT_EQ(data.offset, 2u);
  Fin fin;
  EXPECT_EQ(round_trip(sample(Kind::kFin), {1, 2, 0}, fin), Error::kNone);
  EXPECT_EQ(fin.id, 1u);
  EXPECT_EQ(fin.status, 2u);
  Note note;
  EXPECT_EQ(round_trip(sample(Kind::kNote), {1, 2, 0}, note), Error::kNone);
  EXPECT_EQ(note.id, 1u);
  EXPECT_EQ(note.lane, 2u);
  EagerSync sync;
  EXPECT_EQ(round_trip(sample(Kind::kEagerSync), {kMost}, sync), Error::kNone);
  EXPECT_EQ(sync.send_id, kMost);
  Ack ack;
  EXPECT_EQ(round_trip(sample(Kind::kAck), {kMost}, ack), Error::kNone);
  EXPECT_EQ(ack.send_id, kMost);
  Credit credit;
  EXPECT_EQ(round_trip(sample(Kind::kCredit), {kMost}, credit), Error::kNone);
  EXPECT_EQ(credit.bytes, kMost);
}

TEST(WirePayload, RangesThatWrapAroundAreRejected) {
  Cts cts;
  EXPECT_EQ(round_trip(sample(Kind::kCts), {1, 2, kMost, 1, kMost}, cts), Error::kRange);
  Data data;
  EXPECT_EQ(round_trip(sample(Kind::kData), {1, kMost - 4095}, data), Error::kRange);
  EXPECT_EQ(round_trip(sample(Kind::kData), {1, kMost - 4096}, data), Error::kNone);
}

TEST(WirePayload, AWindowLiesWithinTheMessageAndIsNotEmpty) {
  Cts cts;
  EXPECT_EQ(round_trip(sample(Kind::kCts), {1, 2, 4, 4, 7}, cts), Error::kRange);
  EXPECT_EQ(round_trip(sample(Kind::kCts), {1, 2, 4, 0, 7}, cts), Error::kRange);
  EXPECT_EQ(round_trip(sample(Kind::kCts), {1, 2, 0, 7, 7}, cts), Error::kNone);
}

TEST(WireOffers, ComeBackInTheirOrder) {
  Offers offers;
  const std::array<std::byte, 3> key{std::byte{1}, std::byte{2}, std::byte{3}};
  EXPECT_TRUE(offers.add(7, key));
  EXPECT_TRUE(offers.add(8, {}));
  EXPECT_FALSE(offers.add(9, std::vector<std::byte>(Offers::kMaxBytes)));
  std::span<const std::byte> bytes = offers.bytes();
  EXPECT_TRUE(are_offers(bytes));
  Offer offer;
  ASSERT_TRUE(next_offer(bytes, offer));
  EXPECT_EQ(offer.lane, 7);
  EXPECT_TRUE(std::ranges::equal(offer.key, key));
  ASSERT_TRUE(next_offer(bytes, offer));
  EXPECT_EQ(offer.lane, 8);
  EXPECT_TRUE(offer.key.empty());
  EXPECT_FALSE(next_offer(bytes, offer));
  for (std::size_t cut = 1; cut < offers.bytes().size(); ++cut) {
    // What remains is whole only between two offers.
    EXPECT_EQ(are_offers(offers.bytes().first(cut)), cut == 5) << cut;
  }
}

TEST(WireCopyNotes, ARegionHasANumberAndADescriptorAndNoRangeWraps) {
  const auto decode = [](Place place, std::uint64_t length) {
    return decode_place(std::as_bytes(std::span(&place, 1)), length).has_value();
  };
  for (const std::uint64_t word : {std::uint64_t{5}, std::uint64_t{1} << 32 | 0x80000000u, kMost})
    EXPECT_FALSE(decode({2, word}, 1));
  EXPECT_TRUE(decode({2, 0}, 1));
  EXPECT_TRUE(decode({2, kRegion}, 1));
  EXPECT_TRUE(decode({kMost - 5, 0}, 5));
  EXPECT_FALSE(decode({kMost - 5, 0}, 6));
}

TEST(WireCopyNotes, AShareHasChunksThatCanBeCounted) {
  const auto decode = [](const ShareCopy& share) {
    return decode_share(std::as_bytes(std::span(&share, 1))).has_value();
  };
  ShareCopy share{.receive_id = 1, .place = {4096, 0}, .length = 100, .chunk_bytes = 10};
  EXPECT_TRUE(decode(share));
  share.chunk_bytes = 0;
  EXPECT_FALSE(decode(share));
  share.chunk_bytes = 1;
  share.length = 65'535;
  EXPECT_TRUE(decode(share));
  share.length = 65'536;
  EXPECT_FALSE(decode(share));
  share.length = (std::uint64_t{1} << 32) + 1;
  EXPECT_FALSE(decode(share));
  share.length = 0;
  EXPECT_FALSE(decode(share));
  share.length = 1;
  share.kind = ChunksFailed::kKind;
  EXPECT_FALSE(decode(share));
}

TEST(WirePayload, ReservedFieldsMustBeZero) {
  Fin fin;
  EXPECT_EQ(round_trip(sample(Kind::kFin), {1, 2, 3}, fin), Error::kReserved);
  Note note;
  EXPECT_EQ(round_trip(sample(Kind::kNote), {1, 2, 3}, note), Error::kReserved);
  EXPECT_EQ(round_trip(sample(Kind::kNote), {1, 256, 0}, note), Error::kReserved);
}

TEST(WirePayload, AnotherKindOrTooFewBytesAreRejected) {
  std::array<std::byte, sizeof(Cts)> bytes{};
  Cts cts;
  EXPECT_EQ(decode(sample(Kind::kRts), bytes, cts), Error::kKind);
  EXPECT_EQ(decode(sample(Kind::kCts), std::span(bytes).first(sizeof(Cts) - 1), cts),
            Error::kShort);
}

}  // namespace
}  // namespace mooncake_mpi::wire
