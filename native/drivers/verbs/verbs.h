// What the engine needs of RDMA verbs, and no more: the queue pairs, queues and memory regions of
// one port. Implemented over libibverbs (system_provider.h) and in memory (fake_fabric.h). Objects
// are closed by their destructors, those made from a device before the device. One
// thread at a time, but for what Device says.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mooncake_mpi::verbs_driver {

using Gid = std::array<std::byte, 16>;

enum class LinkLayer : std::uint8_t { kInfiniBand, kEthernet };
enum class GidType : std::uint8_t { kInfiniBand, kRoceV1, kRoceV2 };

struct GidEntry {
  std::uint32_t index = 0;
  Gid gid{};
  GidType type = GidType::kInfiniBand;
};

// A port as it is now.
struct PortInfo {
  std::string device;
  std::uint8_t port = 1;
  bool active = false;
  std::string state;  // in words
  LinkLayer link = LinkLayer::kInfiniBand;
  std::uint32_t mtu_bytes = 0;  // active MTU
  std::uint16_t lid = 0;
  int numa_node = -1;          // of the adapter; -1: unknown
  std::vector<GidEntry> gids;  // the valid ones
};

struct Limits {
  std::uint32_t send_depth = 0;    // work requests of a queue pair
  std::uint32_t shared_depth = 0;  // of a shared receive queue
  std::uint32_t completions = 0;   // of a completion queue
  std::uint32_t read_depth = 0;    // RDMA READs under way, as initiator and as responder
};

// Where packets go: the address vector of a queue pair or address handle.
struct Route {
  Gid gid{};
  std::uint16_t lid = 0;
  bool global = true;  // with a GRH, always so on Ethernet
  std::uint8_t port = 1;
  std::uint8_t gid_index = 0;  // of the sender
  std::uint8_t service_level = 0;
  std::uint8_t traffic_class = 0;
};

enum class Status : std::uint8_t {
  kSuccess,
  kFlushed,           // the queue pair had failed before
  kRetryExceeded,     // nobody answers
  kReceiverNotReady,  // no receive buffer, for too long
  kRemoteAccess,      // the key or range is not open to us
  kRemoteOperation,
  kLocalProtection,
  kLocalOperation,
  kOther,
};
std::string_view status_name(Status status) noexcept;

// Without initialisers: an array of them is made for every poll, and most polls find nothing.
struct WorkCompletion {
  std::uint64_t id;
  Status status;
  bool receive;  // undefined unless kSuccess
  std::uint32_t bytes;
  std::uint32_t queue_pair;  // local number
};

class MemoryRegion {
 public:
  virtual ~MemoryRegion() = default;
  virtual std::uint32_t local_key() const noexcept = 0;
  virtual std::uint32_t remote_key() const noexcept = 0;
};

class AddressHandle {
 public:
  virtual ~AddressHandle() = default;
};

class CompletionQueue {
 public:
  virtual ~CompletionQueue() = default;
  // The number of completions taken, or a negative errno.
  virtual int poll(std::span<WorkCompletion> completions) noexcept = 0;
  // The next completion raises one completion event of the device.
  virtual int arm() noexcept = 0;
};

struct ReceiveRequest {
  std::uint64_t id = 0;
  std::byte* address = nullptr;
  std::uint32_t bytes = 0;
  std::uint32_t local_key = 0;
};

struct SendRequest {
  enum class Operation : std::uint8_t { kSend, kRead, kWrite };
  std::uint64_t id = 0;
  Operation operation = Operation::kSend;
  bool signaled = false;
  bool inlined = false;
  std::byte* address = nullptr;
  std::uint32_t bytes = 0;
  std::uint32_t local_key = 0;
  std::uint64_t remote_address = 0;  // kRead, kWrite
  std::uint32_t remote_key = 0;
  AddressHandle* handle = nullptr;  // datagrams
  std::uint32_t remote_queue_pair = 0;
  std::uint32_t queue_key = 0;
};

class SharedReceiveQueue {
 public:
  virtual ~SharedReceiveQueue() = default;
  virtual int post_receive(const ReceiveRequest& request) noexcept = 0;  // errno
};

struct QueuePairOptions {
  enum class Kind : std::uint8_t { kConnected, kDatagram };
  Kind kind = Kind::kConnected;
  CompletionQueue* completions = nullptr;
  SharedReceiveQueue* receives = nullptr;  // or a receive queue of its own
  std::uint32_t send_depth = 64;
  std::uint32_t receive_depth = 0;
  std::uint32_t inline_bytes = 0;  // wished for
  std::uint8_t port = 1;
  std::uint32_t queue_key = 0;  // datagrams
};

struct ConnectOptions {
  Route route;
  std::uint32_t remote_queue_pair = 0;
  std::uint32_t remote_psn = 0;
  std::uint32_t local_psn = 0;
  std::uint32_t mtu_bytes = 1024;
  std::uint8_t timeout = 14;  // 4.096 us * 2^timeout until a retry
  std::uint8_t retries = 6;   // 7 would be for ever on some providers
  std::uint8_t read_depth = 1;
};

// Made in the INIT state; a datagram pair is ready at once.
class QueuePair {
 public:
  virtual ~QueuePair() = default;
  virtual std::uint32_t number() const noexcept = 0;
  virtual std::uint32_t inline_bytes() const noexcept = 0;
  virtual Result<bool> connect(const ConnectOptions& options) = 0;
  // To the error state: what is under way is flushed.
  virtual void fail() noexcept = 0;
  virtual int post_send(const SendRequest& request) noexcept = 0;        // errno
  virtual int post_receive(const ReceiveRequest& request) noexcept = 0;  // errno
};

inline constexpr unsigned kLocalWrite = 1;
inline constexpr unsigned kRemoteRead = 2;
inline constexpr unsigned kRemoteWrite = 4;

enum class DeviceEvent : std::uint8_t { kPortDown, kPortActive, kDeviceFatal, kOther };
struct PortEvent {
  DeviceEvent event = DeviceEvent::kOther;
  std::uint8_t port = 0;
};

// An open device with one protection domain. Events may be taken, and memory regions closed, by
// other threads than the one that does all the rest.
class Device {
 public:
  virtual ~Device() = default;
  virtual const Limits& limits() const noexcept = 0;
  virtual Result<PortInfo> query_port(std::uint8_t port) = 0;
  virtual Result<std::unique_ptr<MemoryRegion>> register_memory(void* address, std::size_t bytes,
                                                                unsigned access) = 0;
  virtual Result<std::unique_ptr<CompletionQueue>> create_completion_queue(
      std::uint32_t entries) = 0;
  virtual Result<std::unique_ptr<SharedReceiveQueue>> create_shared_receive_queue(
      std::uint32_t entries) = 0;
  virtual Result<std::unique_ptr<QueuePair>> create_queue_pair(const QueuePairOptions& options) = 0;
  virtual Result<std::unique_ptr<AddressHandle>> create_address_handle(const Route& route) = 0;

  // Descriptors for poll(2), and what they announce; neither call blocks.
  virtual int completion_descriptor() const noexcept = 0;
  virtual CompletionQueue* take_completion_event() noexcept = 0;
  virtual int event_descriptor() const noexcept = 0;
  virtual std::optional<PortEvent> take_event() noexcept = 0;
};

class Provider {
 public:
  virtual ~Provider() = default;
  // Every port of every device; a device that cannot be opened is a port with the reason as state.
  virtual Result<std::vector<PortInfo>> ports() = 0;
  virtual Result<std::unique_ptr<Device>> open(const std::string& device) = 0;
};

}  // namespace mooncake_mpi::verbs_driver
