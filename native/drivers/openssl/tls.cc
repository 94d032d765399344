#include "drivers/openssl/tls.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/sha256.h"

namespace mooncake_mpi::openssl_driver {
namespace {

// Whose key it is follows from the connection: it has no other.
constexpr std::string_view kKeyName = "mooncake_mpi";
constexpr const char* kSuite = "TLS_AES_128_GCM_SHA256";
constexpr unsigned char kSuiteNumber[2] = {0x13, 0x01};
constexpr std::size_t kRecordBytes = 16384;
// More that is encrypted and cannot be sent yet is not made.
constexpr std::size_t kMostUnsent = 256 * 1024;

class TlsCipher final : public Cipher {
 public:
  TlsCipher(const Library& library, const Key& key, std::uint64_t records_of_a_key)
      : library_(library), key_(key), records_of_a_key_(records_of_a_key) {}
  ~TlsCipher() override {
    if (connection_ != nullptr) library_.SSL_free(connection_);  // and both ends of the memory
    wipe(key_);
  }

  bool open(Context* context, bool connects) {
    connection_ = library_.SSL_new(context);
    in_ = library_.BIO_new(library_.BIO_s_mem());
    out_ = library_.BIO_new(library_.BIO_s_mem());
    if (connection_ == nullptr || in_ == nullptr || out_ == nullptr) {
      if (in_ != nullptr) library_.BIO_free(in_);
      if (out_ != nullptr) library_.BIO_free(out_);
      return false;
    }
    library_.SSL_set_bio(connection_, in_, out_);
    library_.SSL_ctrl(connection_, kSetMode, kMode, nullptr);
    if (library_.SSL_set_ex_data(connection_, 0, this) != 1) return false;
    if (connects) {
      library_.SSL_set_connect_state(connection_);
      // There is nobody to vouch for a certificate: who comes with one instead of the key is
      // refused.
      library_.SSL_set_verify(connection_, kVerifyPeer, nullptr);
    } else {
      library_.SSL_set_accept_state(connection_);
    }
    go_on();
    return state_ == State::kGoesOn;
  }

  State received(std::span<const std::byte> wire) override {
    if (state_ == State::kFailed) return state_;
    while (!wire.empty()) {
      std::size_t taken = 0;
      if (library_.BIO_write_ex(in_, wire.data(), wire.size(), &taken) != 1) return fail();
      wire = wire.subspan(taken);
    }
    if (state_ == State::kGoesOn) go_on();
    return state_;
  }

  std::size_t read(std::span<std::byte> into) override {
    std::size_t done = 0;
    while (state_ == State::kOpen && done < into.size()) {
      std::size_t got = 0;
      library_.ERR_clear_error();
      if (library_.SSL_read_ex(connection_, into.data() + done, into.size() - done, &got) == 1) {
        done += got;
        continue;
      }
      const int error = library_.SSL_get_error(connection_, 0);
      if (error == kWantRead) break;
      if (error == kZeroReturn) {
        state_ = State::kClosed;
      } else {
        fail();
      }
    }
    collect();  // reading may answer: a change of keys
    return done;
  }

  std::size_t write(std::span<const std::byte> plain) override {
    std::size_t done = 0;
    while (state_ == State::kOpen && done < plain.size() && unsent() < kMostUnsent) {
      if (records_++ == records_of_a_key_) {
        records_ = 1;
        if (library_.SSL_key_update(connection_, kUpdateNotRequested) != 1) {
          fail();
          break;
        }
      }
      std::size_t taken = 0;
      library_.ERR_clear_error();
      const std::size_t bytes = std::min(plain.size() - done, kRecordBytes);
      if (library_.SSL_write_ex(connection_, plain.data() + done, bytes, &taken) != 1) {
        fail();
        break;
      }
      done += taken;
      collect();
    }
    return done;
  }

  std::span<const std::byte> to_send() const noexcept override {
    return std::span(to_send_).subspan(sent_);
  }
  void sent(std::size_t bytes) noexcept override {
    sent_ += bytes;
    if (sent_ != to_send_.size()) return;
    to_send_.clear();
    sent_ = 0;
  }

  void close() override {
    if (state_ != State::kOpen) return;
    library_.SSL_shutdown(connection_);
    library_.ERR_clear_error();
    collect();
    state_ = State::kClosed;
  }

  // A session that never was, with the key: both ends take it up.
  Session* session() const {
    Session* made = library_.SSL_SESSION_new();
    if (made == nullptr) return nullptr;
    const Suite* suite = library_.SSL_CIPHER_find(connection_, kSuiteNumber);
    const auto* key = reinterpret_cast<const unsigned char*>(key_.data());
    if (suite != nullptr && library_.SSL_SESSION_set1_master_key(made, key, key_.size()) == 1 &&
        library_.SSL_SESSION_set_cipher(made, suite) == 1 &&
        library_.SSL_SESSION_set_protocol_version(made, kTls13) == 1) {
      return made;
    }
    library_.SSL_SESSION_free(made);
    return nullptr;
  }

  const Library& library() const noexcept { return library_; }

 private:
  std::size_t unsent() const noexcept { return to_send_.size() - sent_; }

  void go_on() {
    library_.ERR_clear_error();
    const int done = library_.SSL_do_handshake(connection_);
    if (done == 1) {
      // Nobody without the key gets here; one with a certificate instead would not have it either.
      if (library_.SSL_session_reused(connection_) == 1) {
        state_ = State::kOpen;
      } else {
        state_ = State::kFailed;
        failure_ = "TLS: the other side does not have the key";
      }
    } else if (library_.SSL_get_error(connection_, done) != kWantRead) {
      fail();
    }
    collect();  // an alert, too, that says why
  }

  State fail() {
    if (state_ != State::kFailed) failure_ = "TLS: " + library_.take_error();
    return state_ = State::kFailed;
  }

  void collect() {
    const long pending = library_.BIO_ctrl(out_, kPendingBytes, 0, nullptr);
    if (pending <= 0) return;
    if (sent_ > kMostUnsent / 2) {
      to_send_.erase(to_send_.begin(), to_send_.begin() + static_cast<std::ptrdiff_t>(sent_));
      sent_ = 0;
    }
    const std::size_t at = to_send_.size();
    to_send_.resize(at + static_cast<std::size_t>(pending));
    std::size_t got = 0;
    library_.BIO_read_ex(out_, to_send_.data() + at, static_cast<std::size_t>(pending), &got);
    to_send_.resize(at + got);
  }

  const Library& library_;
  Key key_;
  std::uint64_t records_of_a_key_;
  std::uint64_t records_ = 0;
  Connection* connection_ = nullptr;
  Bio* in_ = nullptr;
  Bio* out_ = nullptr;
  std::vector<std::byte> to_send_;
  std::size_t sent_ = 0;
};

// OpenSSL finds the connection's object again by the library's functions; those are the same for
// all, and a callback is given nothing else.
const Library* callbacks_library = nullptr;

TlsCipher& cipher_of(Connection* connection) {
  return *static_cast<TlsCipher*>(callbacks_library->SSL_get_ex_data(connection, 0));
}

int use_session(Connection* connection, const Digest*, const unsigned char** id, std::size_t* bytes,
                Session** session) {
  *id = reinterpret_cast<const unsigned char*>(kKeyName.data());
  *bytes = kKeyName.size();
  *session = cipher_of(connection).session();
  return *session != nullptr ? 1 : 0;
}

int find_session(Connection* connection, const unsigned char* id, std::size_t bytes,
                 Session** session) {
  *session = nullptr;
  if (std::string_view(reinterpret_cast<const char*>(id), bytes) == kKeyName) {
    *session = cipher_of(connection).session();
  }
  return 1;  // without one there is nothing else that we could agree on
}

}  // namespace

Result<std::unique_ptr<Tls>> Tls::load(const std::string& file) {
  Result<Library> library = Library::load(file);
  if (!library) return library.failure();
  std::unique_ptr<Tls> made(new Tls(library.value()));
  Result<bool> opened = made->open();
  if (!opened) return opened.failure();
  return made;
}

Tls::~Tls() {
  if (context_ != nullptr) library_.SSL_CTX_free(context_);
}

Result<bool> Tls::open() {
  static const Library functions = library_;
  callbacks_library = &functions;
  library_.ERR_clear_error();
  context_ = library_.SSL_CTX_new(library_.TLS_method());
  const bool ready = context_ != nullptr &&
                     library_.SSL_CTX_ctrl(context_, kSetMinimum, kTls13, nullptr) == 1 &&
                     library_.SSL_CTX_ctrl(context_, kSetMaximum, kTls13, nullptr) == 1 &&
                     library_.SSL_CTX_set_ciphersuites(context_, kSuite) == 1 &&
                     library_.SSL_CTX_set_num_tickets(context_, 0) == 1;
  if (!ready) return Failure{Error::kOther, "TLS 1.3: " + library_.take_error()};
  library_.SSL_CTX_set_psk_use_session_callback(context_, use_session);
  library_.SSL_CTX_set_psk_find_session_callback(context_, find_session);
  return true;
}

Result<std::unique_ptr<Cipher>> Tls::make(const Key& key, bool connects, std::uint64_t records) {
  auto cipher = std::make_unique<TlsCipher>(library_, key, records);
  if (!cipher->open(context_, connects)) {
    return Failure{Error::kOther, cipher->failure().empty() ? "TLS: no memory" : cipher->failure()};
  }
  return std::unique_ptr<Cipher>(std::move(cipher));
}

Result<std::unique_ptr<Cipher>> Tls::connecting(const Key& key, std::uint64_t records_of_a_key) {
  return make(key, true, records_of_a_key);
}

Result<std::unique_ptr<Cipher>> Tls::accepting(const Key& key, std::uint64_t records_of_a_key) {
  return make(key, false, records_of_a_key);
}

}  // namespace mooncake_mpi::openssl_driver
