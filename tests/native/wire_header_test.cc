// Headers and payloads survive the trip, and every malformed field is named. One thread.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

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
      return control_header(kind, 7, 3, sizeof(Cts), kTogether);
    case Kind::kData:
      return control_header(kind, 7, 3, sizeof(Data) + 4096);
    case Kind::kFin:
      return control_header(kind, 7, 3, sizeof(Fin));
    case Kind::kAck:
      return control_header(kind, 7, 3, sizeof(Ack));
    case Kind::kChunkFailed:
      return control_header(kind, 7, 3, sizeof(ChunkFailed));
    case Kind::kCredit:
      return control_header(kind, 7, 3, sizeof(Credit));
  }
  return {};
}

constexpr std::array kKinds = {Kind::kEager, Kind::kEagerSync,   Kind::kRts,
                               Kind::kCts,   Kind::kData,        Kind::kFin,
                               Kind::kAck,   Kind::kChunkFailed, Kind::kCredit};

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
    const bool known = (GetParam() == Kind::kCts && (flags == kTogether || flags == kStream)) ||
                       (GetParam() == Kind::kRts && (flags & ~(kGathered | kMoved)) == 0);
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
  for (std::uint32_t bytes = 0; bytes < right + 50; ++bytes) {
    header.payload_bytes = bytes;
    const Error error = validate(header);
    const bool key = GetParam() == Kind::kRts && bytes > right && bytes <= right + kMaxKeyBytes;
    if (bytes == right || key || (GetParam() == Kind::kData && bytes >= sizeof(Data))) {
      ASSERT_EQ(error, Error::kNone) << bytes;
    } else {
      ASSERT_TRUE(error == Error::kPayload || error == Error::kLength) << bytes;
    }
  }
}

const char* name_of(Kind kind) {
  constexpr const char* kNames[] = {"Eager", "EagerSync", "Rts",         "Cts",   "Data",
                                    "Fin",   "Ack",       "ChunkFailed", "Credit"};
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
  for (int i = 0; i <= static_cast<int>(Error::kRegion); ++i) {
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
  EXPECT_EQ(round_trip(sample(Kind::kRts), {1, 2, kRegion}, rts), Error::kNone);
  EXPECT_EQ(rts.send_id, 1u);
  EXPECT_EQ(rts.address, 2u);
  EXPECT_EQ(rts.region, kRegion);
  Cts cts;
  EXPECT_EQ(round_trip(sample(Kind::kCts), {1, 2, 3, kRegion, 4, 5, 6, 7}, cts), Error::kNone);
  EXPECT_EQ(cts.send_id, 1u);
  EXPECT_EQ(cts.receive_id, 2u);
  EXPECT_EQ(cts.address, 3u);
  EXPECT_EQ(cts.region, kRegion);
  EXPECT_EQ(cts.length, 4u);
  EXPECT_EQ(cts.copy_job, 5u);
  EXPECT_EQ(cts.chunk_bytes, 6u);
  EXPECT_EQ(cts.generation, 7u);
  Data data;
  EXPECT_EQ(round_trip(sample(Kind::kData), {1, 2}, data), Error::kNone);
  EXPECT_EQ(data.receive_id, 1u);
  EXPECT_EQ(data.offset, 2u);
  Fin fin;
  EXPECT_EQ(round_trip(sample(Kind::kFin), {1, 2, 0}, fin), Error::kNone);
  EXPECT_EQ(fin.id, 1u);
  EXPECT_EQ(fin.status, 2u);
  ChunkFailed failed;
  EXPECT_EQ(round_trip(sample(Kind::kChunkFailed), {1, 2, 0}, failed), Error::kNone);
  EXPECT_EQ(failed.receive_id, 1u);
  EXPECT_EQ(failed.chunk, 2u);
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
  Rts rts;
  const std::uint64_t length = sample(Kind::kRts).length();
  EXPECT_EQ(round_trip(sample(Kind::kRts), {1, kMost - length, 0}, rts), Error::kNone);
  EXPECT_EQ(round_trip(sample(Kind::kRts), {1, kMost - length + 1, 0}, rts), Error::kRange);
  Cts cts;
  EXPECT_EQ(round_trip(sample(Kind::kCts), {1, 2, kMost, 0, 1, 0, 1, 0}, cts), Error::kRange);
  Data data;
  EXPECT_EQ(round_trip(sample(Kind::kData), {1, kMost - 4095}, data), Error::kRange);
  EXPECT_EQ(round_trip(sample(Kind::kData), {1, kMost - 4096}, data), Error::kNone);
}

TEST(WirePayload, ACopyJobNeedsAChunkSize) {
  Cts cts;
  EXPECT_EQ(round_trip(sample(Kind::kCts), {1, 2, 3, 0, 4, 5, 0, 7}, cts), Error::kChunk);
  Header stream = sample(Kind::kCts);
  stream.flags = kStream;
  EXPECT_EQ(round_trip(stream, {1, 2, 3, 0, 4, 0, 0, 0}, cts), Error::kNone);
}

TEST(WirePayload, ARegionHasANumberAndADescriptor) {
  Rts rts;
  Cts cts;
  for (const std::uint64_t word : {std::uint64_t{5}, std::uint64_t{1} << 32 | 0x80000000u, kMost}) {
    EXPECT_EQ(round_trip(sample(Kind::kRts), {1, 2, word}, rts), Error::kRegion);
    EXPECT_EQ(round_trip(sample(Kind::kCts), {1, 2, 3, word, 4, 5, 6, 7}, cts), Error::kRegion);
  }
  EXPECT_EQ(round_trip(sample(Kind::kRts), {1, 2, 0}, rts), Error::kNone);
  EXPECT_EQ(round_trip(sample(Kind::kCts), {1, 2, 3, 0, 4, 5, 6, 7}, cts), Error::kNone);
}

TEST(WirePayload, ReservedFieldsMustBeZero) {
  Fin fin;
  EXPECT_EQ(round_trip(sample(Kind::kFin), {1, 2, 3}, fin), Error::kReserved);
  ChunkFailed failed;
  EXPECT_EQ(round_trip(sample(Kind::kChunkFailed), {1, 2, 3}, failed), Error::kReserved);
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
