#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "drivers/linux/memory_places.h"
#include "drivers/verbs/verbs.h"
#include "memory/shared_pool.h"
#include "transport/transport.h"
#include "transport/verbs/bounce_buffers.h"
#include "transport/verbs/channel.h"
#include "transport/verbs/config.h"
#include "transport/verbs/survey.h"
#include "transport/verbs/watcher.h"

namespace mooncake_mpi::verbs {

// Other hosts, and this one on request: reliable connected queue pairs over every active port.
class VerbsTransport final : public Transport {
 public:
  static constexpr wire::LaneId kLane = 3;

  // Fails, with the reason in one line, where no port can be used. Memory of `pool` stays
  // registered.
  static Result<std::unique_ptr<VerbsTransport>> create(
      const wire::Address& self, std::shared_ptr<verbs_driver::Provider> provider,
      const Config& config, MoverCounters& counters,
      std::shared_ptr<linux_driver::MemoryPlaces> places = nullptr, SharedPool* pool = nullptr);
  ~VerbsTransport() override;

  std::string_view name() const noexcept override { return "verbs"; }
  void describe(wire::Address& address) const override;
  std::string unreachable_reason(const wire::Address& peer) const override;
  Result<Way> connect(const wire::Address& address, Peer& peer) override;
  unsigned poll(PacketSink& sink) override;
  void drain(Peer&, PacketSink& sink) override;
  void start(Waker& waker) override;
  void stop() override { watcher_.stop(); }
  void before_sleep() override;
  bool drained() override;
  // As long as there is somebody to hear from.
  std::uint64_t patience_ns() const noexcept override {
    return channels_.empty() ? 0 : config_.patience_ns;
  }

  const Config& config() const noexcept { return config_; }

 private:
  friend class VerbsChannel;
  friend class VerbsMover;

  VerbsTransport(const wire::Address& self, std::shared_ptr<verbs_driver::Provider> provider,
                 const Config& config, MoverCounters& counters,
                 std::shared_ptr<linux_driver::MemoryPlaces> places);

  void divide_memory(const std::vector<PortReport>& reports);
  unsigned poll_rail(Rail& rail, PacketSink& sink);
  void on_completion(Rail& rail, const verbs_driver::WorkCompletion& done, PacketSink& sink);
  void on_datagram(Bytes datagram, PacketSink& sink);
  void take_port_events();
  void tick(PacketSink& sink);
  VerbsChannel* find_lost() const noexcept;
  // For one more connection, so that none needs memory when it fails.
  void reserve_retired() { retired_.reserve(connections_.count() + 1); }
  void retire(Connection& connection, std::uint64_t now);
  void close(Connection& connection);
  void close_all(VerbsChannel& channel);
  void attend_later(VerbsChannel& channel);
  void attend_to_all(PacketSink& sink);
  void tick_soon();

  wire::Identity self_;
  std::shared_ptr<verbs_driver::Provider> provider_;
  Config config_;
  MoverCounters& counters_;
  std::shared_ptr<linux_driver::MemoryPlaces> places_;
  std::vector<std::unique_ptr<Rail>> rails_;
  std::optional<BounceBuffers> bounce_buffers_;
  ConnectionTable connections_;
  std::vector<Connection*> retired_;
  std::map<ProcessId, VerbsChannel*> channels_;
  std::vector<VerbsChannel*> attention_;  // at the next poll
  std::vector<VerbsChannel*> attending_;  // now
  std::uint32_t polls_ = 0;
  std::uint64_t next_heartbeat_ns_ = 0;
  EventWatcher watcher_;
};

}  // namespace mooncake_mpi::verbs
