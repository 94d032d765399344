#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "transport/mover.h"
#include "transport/verbs/bounce_buffers.h"
#include "transport/verbs/channel.h"
#include "transport/verbs/connection.h"
#include "transport/verbs/registrations.h"
#include "wire/verbs.h"

namespace mooncake_mpi::verbs {

class VerbsTransport;

// Bytes of the peer that are being read into a buffer here, piece by piece over all paths.
struct Read {
  std::uint64_t id = 0;
  std::byte* target = nullptr;   // the program's buffer
  BounceBuffers::Buffer bounce;  // that is read into instead
  std::byte* local = nullptr;    // the one or the other
  std::uint64_t bytes = 0;
  wire::RemoteKeys keys;
  std::uint64_t next = 0;       // not yet posted from here on
  std::vector<Fragment> again;  // posted on a path that failed
  std::uint32_t under_way = 0;
  std::uint64_t done = 0;
  bool failed = false;
  std::array<Registrations::Region, wire::kMaxRails> regions;
  std::array<bool, wire::kMaxRails> refused{};  // rails that could not register the buffer
  std::array<int, wire::kMaxRails> distance{};  // of rails to the buffer
};

// Large messages: the receiver's adapters read the sender's memory over all paths of the channel.
// Engine lock held for every call.
class VerbsMover final : public Mover {
 public:
  // `channel` outlives it.
  VerbsMover(VerbsTransport& transport, VerbsChannel& channel);
  ~VerbsMover() override;
  VerbsMover(const VerbsMover&) = delete;
  VerbsMover& operator=(const VerbsMover&) = delete;

  // --- Mover ---
  wire::LaneId lane() const noexcept override;
  TransferPath path() const noexcept override { return TransferPath::kRdma; }
  Answer expose(const Buffer& buffer, Access access, Exposure& exposure) noexcept override;
  void conceal(std::uint32_t handle) noexcept override;
  bool start_read(const Move& into, Bytes key, PacketSink& sink) override;
  void hurry(std::uint64_t id) noexcept override;
  void abandon() noexcept override;

  // --- for the channel ---
  enum class Outcome : std::uint8_t { kDone, kAgain, kFailed };
  void finish_fragment(Connection& connection, Connection::Request& request, Outcome outcome);
  // Goes on with what is under way and tells of what is over.
  void attend(PacketSink& sink);
  // An adapter that refused a request for the moment gives no other sign when it would take it.
  bool has_idle_reads() const noexcept;

 private:
  struct Exposed {
    BounceBuffers::Buffer bounce;  // a copy of the message
    std::array<Registrations::Region, wire::kMaxRails> regions;
    bool used = false;
  };

  bool begin_read(const Move& into, const wire::RemoteKeys& keys);
  void open_to_reads(const std::byte* address, std::uint64_t bytes, Exposure& exposure);
  BounceBuffers::Buffer take_bounce(const std::byte* address, std::uint64_t bytes) noexcept;
  void pump_reads() noexcept;
  bool post_fragment(const Fragment& fragment) noexcept;
  Path* choose_path(Read& read) noexcept;
  bool prepare(Read& read, const Path& path) noexcept;
  void report_reads(PacketSink& sink);

  VerbsTransport& transport_;
  VerbsChannel& channel_;
  std::vector<std::unique_ptr<Read>> reads_;
  std::vector<Exposed> exposed_;
  std::vector<std::uint32_t> free_exposed_;
};

}  // namespace mooncake_mpi::verbs
