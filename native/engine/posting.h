#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "protocol/protocol.h"

namespace mooncake_mpi {

// A send or a receive of those that Engine::post() starts together, and what it has come to. Ranks
// and tags were checked.
struct Posting {
  enum class Kind : std::uint8_t { kSend, kReceive, kReceiveAnySize };

  Context* context = nullptr;
  Kind kind = Kind::kSend;
  SendMode mode = SendMode::kStandard;  // of a send
  MatchChannel channel = MatchChannel::kMessages;
  std::int32_t rank = 0;  // the destination, or the source
  std::int32_t tag = 0;
  Buffer buffer{};

  Operation* operation = nullptr;  // nullptr: a send that is done, or what could not be started
  Error error = Error::kNone;      // why it could not be
  std::string reason{};            // the same for people

  // Of device memory, made before the lock is taken.
  std::unique_ptr<Source> source{};
  std::unique_ptr<Sink> sink{};
  std::unique_ptr<std::byte[]> copy{};  // of a buffered send
};

}  // namespace mooncake_mpi
