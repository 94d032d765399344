#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace mooncake_mpi {

// Expected failures. Every value has an MPI error class, by the name that error_name() gives.
enum class Error : std::uint8_t {
  kNone = 0,
  kBuffer,
  kCommunicator,
  kTag,
  kTruncate,
  kNoMemory,
  kUnreachable,
  kProcessFailed,
  kPathLost,              // the same to the program: no way to the process is left
  kProcessFailedPending,  // a wildcard receive: still pending, a possible sender has failed
  kRevoked,
  kOther,
};

inline constexpr std::size_t kErrors = static_cast<std::size_t>(Error::kOther) + 1;

constexpr std::string_view error_name(Error error) {
  switch (error) {
    case Error::kNone:
      return "SUCCESS";
    case Error::kBuffer:
      return "ERR_BUFFER";
    case Error::kCommunicator:
      return "ERR_COMM";
    case Error::kTag:
      return "ERR_TAG";
    case Error::kTruncate:
      return "ERR_TRUNCATE";
    case Error::kNoMemory:
      return "ERR_NO_MEM";
    case Error::kProcessFailed:
    case Error::kPathLost:
      return "ERR_PROC_FAILED";
    case Error::kProcessFailedPending:
      return "ERR_PROC_FAILED_PENDING";
    case Error::kRevoked:
      return "ERR_REVOKED";
    case Error::kUnreachable:
    case Error::kOther:
      return "ERR_OTHER";
  }
  return "ERR_INTERN";
}

struct Failure {
  Error error = Error::kOther;
  std::string message;
};

// A value or the reason why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
  Result(Failure failure) : content_(std::in_place_index<1>, std::move(failure)) {}

  bool ok() const noexcept { return content_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }
  T& value() & { return std::get<0>(content_); }
  T&& value() && { return std::get<0>(std::move(content_)); }
  const Failure& failure() const { return std::get<1>(content_); }

 private:
  std::variant<T, Failure> content_;
};

}  // namespace mooncake_mpi
