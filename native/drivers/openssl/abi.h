// What of OpenSSL 3 the TLS layer uses, in the binary interface of libssl.so.3: to build it none of
// OpenSSL's files are needed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mooncake_mpi::openssl_driver {

struct Context;     // SSL_CTX
struct Connection;  // SSL
struct Method;      // SSL_METHOD
struct Session;     // SSL_SESSION
struct Suite;       // SSL_CIPHER
struct Digest;      // EVP_MD
struct Bio;         // BIO
struct BioMethod;   // BIO_METHOD

using UseSession = int (*)(Connection*, const Digest*, const unsigned char** id, std::size_t* bytes,
                           Session**);
using FindSession = int (*)(Connection*, const unsigned char* id, std::size_t bytes, Session**);
using Verify = int (*)(int, void*);

inline constexpr int kTls13 = 0x0304;
inline constexpr int kSetMinimum = 123;          // SSL_CTRL_SET_MIN_PROTO_VERSION
inline constexpr int kSetMaximum = 124;          // SSL_CTRL_SET_MAX_PROTO_VERSION
inline constexpr int kSetMode = 33;              // SSL_CTRL_MODE
inline constexpr long kMode = 0x1 | 0x2 | 0x10;  // partial writes, moving buffers, few buffers kept
inline constexpr int kVerifyPeer = 1;            // SSL_VERIFY_PEER
inline constexpr int kWantRead = 2;              // SSL_ERROR_WANT_READ
inline constexpr int kZeroReturn = 6;            // SSL_ERROR_ZERO_RETURN
inline constexpr int kPendingBytes = 10;         // BIO_CTRL_PENDING
inline constexpr int kUpdateNotRequested = 0;    // SSL_KEY_UPDATE_NOT_REQUESTED

// Name in libssl, or libcrypto below it; what it gives; what it takes.
// clang-format off
#define MOONCAKE_MPI_OPENSSL_FUNCTIONS(entry) \
  entry(OPENSSL_init_ssl, int, std::uint64_t, const void*)                              \
  entry(TLS_method, const Method*)                                                      \
  entry(SSL_CTX_new, Context*, const Method*)                                           \
  entry(SSL_CTX_free, void, Context*)                                                   \
  entry(SSL_CTX_ctrl, long, Context*, int, long, void*)                                 \
  entry(SSL_CTX_set_ciphersuites, int, Context*, const char*)                           \
  entry(SSL_CTX_set_num_tickets, int, Context*, std::size_t)                            \
  entry(SSL_CTX_set_psk_use_session_callback, void, Context*, UseSession)               \
  entry(SSL_CTX_set_psk_find_session_callback, void, Context*, FindSession)             \
  entry(SSL_new, Connection*, Context*)                                                 \
  entry(SSL_free, void, Connection*)                                                    \
  entry(SSL_set_bio, void, Connection*, Bio*, Bio*)                                     \
  entry(SSL_set_ex_data, int, Connection*, int, void*)                                  \
  entry(SSL_get_ex_data, void*, const Connection*, int)                                 \
  entry(SSL_set_verify, void, Connection*, int, Verify)                                 \
  entry(SSL_set_connect_state, void, Connection*)                                       \
  entry(SSL_set_accept_state, void, Connection*)                                        \
  entry(SSL_ctrl, long, Connection*, int, long, void*)                                  \
  entry(SSL_do_handshake, int, Connection*)                                             \
  entry(SSL_session_reused, int, const Connection*)                                     \
  entry(SSL_read_ex, int, Connection*, void*, std::size_t, std::size_t*)                \
  entry(SSL_write_ex, int, Connection*, const void*, std::size_t, std::size_t*)         \
  entry(SSL_shutdown, int, Connection*)                                                 \
  entry(SSL_key_update, int, Connection*, int)                                          \
  entry(SSL_get_error, int, const Connection*, int)                                     \
  entry(SSL_SESSION_new, Session*)                                                      \
  entry(SSL_SESSION_free, void, Session*)                                               \
  entry(SSL_SESSION_set1_master_key, int, Session*, const unsigned char*, std::size_t)  \
  entry(SSL_SESSION_set_cipher, int, Session*, const Suite*)                            \
  entry(SSL_SESSION_set_protocol_version, int, Session*, int)                           \
  entry(SSL_CIPHER_find, const Suite*, Connection*, const unsigned char*)               \
  entry(BIO_s_mem, const BioMethod*)                                                    \
  entry(BIO_new, Bio*, const BioMethod*)                                                \
  entry(BIO_free, int, Bio*)                                                            \
  entry(BIO_ctrl, long, Bio*, int, long, void*)                                         \
  entry(BIO_read_ex, int, Bio*, void*, std::size_t, std::size_t*)                       \
  entry(BIO_write_ex, int, Bio*, const void*, std::size_t, std::size_t*)                \
  entry(ERR_get_error, unsigned long)                                                   \
  entry(ERR_clear_error, void)                                                          \
  entry(ERR_reason_error_string, const char*, unsigned long)
// clang-format on

}  // namespace mooncake_mpi::openssl_driver
