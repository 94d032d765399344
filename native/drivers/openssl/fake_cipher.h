#pragma once

// A cipher that hides nothing, for tests where there is no OpenSSL: it says hello with its key,
// then sends records whose bytes are mixed with a count and that end with a sum of them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "drivers/openssl/cipher.h"

namespace mooncake_mpi {

class FakeCipher final : public Cipher {
 public:
  explicit FakeCipher(std::byte key) : key_(key) { out_.push_back(key); }

  State received(std::span<const std::byte> wire) override {
    in_.insert(in_.end(), wire.begin(), wire.end());
    if (state_ == State::kGoesOn && !in_.empty()) {
      state_ = in_[0] == key_ ? State::kOpen : State::kFailed;
      if (state_ == State::kFailed) failure_ = "the other side does not have the key";
      in_.erase(in_.begin());
    }
    while (state_ == State::kOpen && take_record()) {
    }
    return state_;
  }
  std::size_t read(std::span<std::byte> into) override {
    const std::size_t bytes = std::min(into.size(), plain_.size());
    std::copy_n(plain_.begin(), bytes, into.begin());
    plain_.erase(plain_.begin(), plain_.begin() + static_cast<std::ptrdiff_t>(bytes));
    if (plain_.empty() && ended_ && state_ == State::kOpen) state_ = State::kClosed;
    return bytes;
  }
  std::size_t write(std::span<const std::byte> plain) override {
    std::size_t done = 0;
    while (state_ == State::kOpen && done < plain.size() && out_.size() - sent_ < kMostUnsent) {
      const std::size_t bytes = std::min(plain.size() - done, kRecordBytes);
      put_record(plain.subspan(done, bytes));
      done += bytes;
    }
    return done;
  }
  std::span<const std::byte> to_send() const noexcept override {
    return std::span(out_).subspan(sent_);
  }
  void sent(std::size_t bytes) noexcept override { sent_ += bytes; }
  void close() override {
    if (state_ != State::kOpen) return;
    put_record({});
    state_ = State::kClosed;
  }

 private:
  static constexpr std::size_t kRecordBytes = 1000;
  static constexpr std::size_t kMostUnsent = 10'000;

  // Two bytes length, the bytes, a byte sum; an empty one is the last.
  void put_record(std::span<const std::byte> plain) {
    out_.push_back(static_cast<std::byte>(plain.size()));
    out_.push_back(static_cast<std::byte>(plain.size() >> 8));
    std::uint8_t sum = ++said_;
    for (const std::byte byte : plain) {
      sum = static_cast<std::uint8_t>(31 * sum + static_cast<std::uint8_t>(byte));
      out_.push_back(byte ^ static_cast<std::byte>(0xa5 + said_));
    }
    out_.push_back(static_cast<std::byte>(sum));
  }
  bool take_record() {
    if (in_.size() < 2) return false;
    const std::size_t bytes = static_cast<std::size_t>(in_[0]) | static_cast<std::size_t>(in_[1])
                                                                     << 8;
    if (bytes > kRecordBytes) return fail();
    if (in_.size() < bytes + 3) return false;
    std::uint8_t sum = ++heard_;
    std::vector<std::byte> plain;
    for (std::size_t i = 0; i < bytes; ++i) {
      plain.push_back(in_[2 + i] ^ static_cast<std::byte>(0xa5 + heard_));
      sum = static_cast<std::uint8_t>(31 * sum + static_cast<std::uint8_t>(plain.back()));
    }
    if (in_[2 + bytes] != static_cast<std::byte>(sum)) return fail();
    in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(bytes + 3));
    ended_ |= bytes == 0;
    plain_.insert(plain_.end(), plain.begin(), plain.end());
    return true;
  }
  bool fail() {
    state_ = State::kFailed;
    failure_ = "a record was changed";
    plain_.clear();
    return false;
  }

  std::byte key_;
  std::vector<std::byte> in_;
  std::vector<std::byte> plain_;
  std::vector<std::byte> out_;
  std::size_t sent_ = 0;
  std::uint8_t said_ = 0;
  std::uint8_t heard_ = 0;
  bool ended_ = false;
};

}  // namespace mooncake_mpi
