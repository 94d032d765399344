// SHA-256 and HMAC-SHA256 give what the standards and Python's hashlib and hmac give. One thread.
#include "base/sha256.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mooncake_mpi {
namespace {

std::string hex(const Digest& digest) {
  std::string text;
  for (const std::byte byte : digest) {
    text += "0123456789abcdef"[static_cast<unsigned>(byte) >> 4];
    text += "0123456789abcdef"[static_cast<unsigned>(byte) & 15];
  }
  return text;
}

Digest sha256(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

std::vector<std::byte> repeated(int byte, std::size_t times) {
  return std::vector<std::byte>(times, static_cast<std::byte>(byte));
}

// bytes((7 * i + n) % 256 for i in range(n))
std::vector<std::byte> pattern(std::size_t n) {
  std::vector<std::byte> bytes(n);
  for (std::size_t i = 0; i < n; ++i)
    bytes[i] = static_cast<std::byte>(7 * i + n);
  return bytes;
}

// FIPS 180-4's examples, and a million letters.
TEST(Sha256, GivesTheStandardsDigests) {
  EXPECT_EQ(hex(sha256(bytes_of(""))),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex(sha256(bytes_of("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(sha256(bytes_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hex(sha256(repeated('a', 1'000'000))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// h = hashlib.sha256()
// for n in range(300): h.update(hashlib.sha256(pattern(n)).digest())
TEST(Sha256, OfEverySizeIsPythons) {
  Sha256 all;
  for (std::size_t n = 0; n < 300; ++n)
    all.update(sha256(pattern(n)));
  EXPECT_EQ(hex(all.finish()), "d5238871a46ac4a1a75ac3fb19d645b0b3b9e5f35f5f720e2b240d605c6b694e");
}

TEST(Sha256, InAnyPiecesIsTheSame) {
  const auto bytes = pattern(257);
  const Digest whole = sha256(bytes);
  for (std::size_t piece = 1; piece < 140; ++piece) {
    Sha256 hash;
    for (std::size_t at = 0; at < bytes.size(); at += piece)
      hash.update(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
    ASSERT_EQ(hash.finish(), whole) << piece;
  }
}

// RFC 4231, cases 1, 2, 3, 6 and 7.
TEST(HmacSha256, GivesTheStandardsDigests) {
  EXPECT_EQ(hex(hmac_sha256(repeated(0x0b, 20), {bytes_of("Hi There")})),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(
      hex(hmac_sha256(bytes_of("Jefe"), {bytes_of("what do ya want "), bytes_of("for nothing?")})),
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(hex(hmac_sha256(repeated(0xaa, 20), {repeated(0xdd, 50)})),
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
  EXPECT_EQ(hex(hmac_sha256(repeated(0xaa, 131),
                            {bytes_of("Test Using Larger Than Block-Size Key - Hash Key First")})),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  EXPECT_EQ(
      hex(hmac_sha256(repeated(0xaa, 131),
                      {bytes_of("This is a test using a larger than block-size key and a larger "
                                "than block-size data. The key needs to be hashed before being "
                                "used by the HMAC algorithm.")})),
      "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

// h = hashlib.sha256()
// for n in range(300): h.update(hmac.new(pattern(n), pattern(299 - n), hashlib.sha256).digest())
TEST(HmacSha256, OfKeysAndTextsOfEverySizeIsPythons) {
  Sha256 all;
  for (std::size_t n = 0; n < 300; ++n)
    all.update(hmac_sha256(pattern(n), {pattern(299 - n)}));
  EXPECT_EQ(hex(all.finish()), "d3e28abf5c8bc887b9e0487cbdc6df557e602fac1c2ba9eef92fc068e8bfb767");
}

TEST(SameBytes, SeesEveryDifferentBit) {
  const auto one = pattern(32);
  EXPECT_TRUE(same_bytes(one, pattern(32)));
  EXPECT_FALSE(same_bytes(one, std::span(one).first(31)));
  for (std::size_t bit = 0; bit < 8 * one.size(); ++bit) {
    auto other = one;
    other[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    ASSERT_FALSE(same_bytes(one, other)) << bit;
  }
}

TEST(Wipe, LeavesNothing) {
  auto secret = pattern(40);
  wipe(secret);
  EXPECT_EQ(secret, repeated(0, 40));
}

}  // namespace
}  // namespace mooncake_mpi
