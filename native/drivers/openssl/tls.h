#pragma once

// TLS 1.3 with a key that both ends have already (RFC 8446, 2.2; psk_dhe_ke): no certificates, and
// keys that nobody has afterwards. Any thread; a Cipher is one thread's at a time.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "drivers/openssl/cipher.h"
#include "drivers/openssl/library.h"

namespace mooncake_mpi::openssl_driver {

using Key = std::array<std::byte, 32>;

class Tls {
 public:
  // AES-GCM wants new keys after 2^24.5 records (RFC 8446, 5.5).
  static constexpr std::uint64_t kRecordsOfAKey = 1u << 22;

  static Result<std::unique_ptr<Tls>> load(const std::string& file = "libssl.so.3");
  ~Tls();
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  // Ends of a connection; the key is of this connection alone. This object outlives them.
  Result<std::unique_ptr<Cipher>> connecting(const Key& key,
                                             std::uint64_t records_of_a_key = kRecordsOfAKey);
  Result<std::unique_ptr<Cipher>> accepting(const Key& key,
                                            std::uint64_t records_of_a_key = kRecordsOfAKey);

 private:
  explicit Tls(const Library& library) : library_(library) {}
  Result<bool> open();
  Result<std::unique_ptr<Cipher>> make(const Key& key, bool connects, std::uint64_t records);

  Library library_;
  Context* context_ = nullptr;
};

}  // namespace mooncake_mpi::openssl_driver
