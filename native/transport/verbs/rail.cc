// A port is opened, its GID chosen, its receive buffers posted, and datagrams are sent over it.
// Engine lock held for every call.
#include "transport/verbs/rail.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>

namespace mooncake_mpi::verbs {

using namespace verbs_driver;  // this lane is written in the driver's terms

namespace {

std::uint32_t random_word() {
  static thread_local std::random_device device;
  return device();
}

// RoCE v2 over IPv4 first, then over IPv6, link-local addresses last.
int rank_of(const GidEntry& entry, LinkLayer link) {
  if (link == LinkLayer::kInfiniBand) return entry.index == 0 ? 0 : 1;
  constexpr std::array<std::byte, 12> kIpv4{
      std::byte{}, std::byte{}, std::byte{}, std::byte{}, std::byte{},     std::byte{},
      std::byte{}, std::byte{}, std::byte{}, std::byte{}, std::byte{0xff}, std::byte{0xff}};
  const bool ipv4 = std::equal(kIpv4.begin(), kIpv4.end(), entry.gid.begin());
  const bool link_local = entry.gid[0] == std::byte{0xfe} && entry.gid[1] == std::byte{0x80};
  const int kind = ipv4 ? 0 : link_local ? 2 : 1;
  return entry.type == GidType::kRoceV2 ? kind : 3 + kind;
}

}  // namespace

Result<GidEntry> Rail::choose_gid(const PortInfo& port, const Config& config) {
  const GidEntry* best = nullptr;
  for (const GidEntry& entry : port.gids) {
    if (config.gid_index >= 0) {
      if (entry.index == static_cast<std::uint32_t>(config.gid_index)) return entry;
    } else if (best == nullptr || rank_of(entry, port.link) < rank_of(*best, port.link)) {
      best = &entry;
    }
  }
  if (config.gid_index >= 0) {
    return Failure{Error::kUnreachable, "no GID at index " + std::to_string(config.gid_index)};
  }
  if (best != nullptr) return *best;
  if (port.link == LinkLayer::kInfiniBand) return GidEntry{};  // a LID is enough
  return Failure{Error::kUnreachable, "no GID: has its network interface an address?"};
}

Result<std::unique_ptr<Rail>> Rail::open(Provider& provider, const PortInfo& port,
                                         const Config& config, SharedPool* pool) {
  // InfiniBand gives a port its LID when it comes up.
  if (!port.active && port.link != LinkLayer::kEthernet) {
    return Failure{Error::kUnreachable, "port " + port.state};
  }
  std::unique_ptr<Rail> rail(new Rail(port, config, pool));
  Result<GidEntry> gid = choose_gid(port, config);
  if (!gid) {
    if (!port.active) return Failure{Error::kUnreachable, "port " + port.state};
    return gid.failure();
  }
  rail->gid_ = gid.value();
  Result<bool> built = rail->build(provider);
  if (!built) return built.failure();
  return rail;
}

Result<bool> Rail::build(Provider& provider) {
  Result<std::unique_ptr<Device>> device = provider.open(port_.device);
  if (!device) return device.failure();
  device_ = std::move(device).value();
  registrations_.emplace(*device_, pool_, config_.cached_bytes);
  // From here on its events tell.
  Result<PortInfo> now = device_->query_port(port_.port);
  active_ = now ? now.value().active : port_.active;
  const Limits& limits = device_->limits();
  if (limits.send_depth < kSendDepth || limits.shared_depth < kReceivesPerPath) {
    return Failure{Error::kUnreachable, "its queues are too short"};
  }
  // A completion queue that overruns is lost: room for everything that can be under way.
  const std::uint32_t receives = std::min(limits.shared_depth, 8192u);
  auto completions = device_->create_completion_queue(std::min(limits.completions, 4 * receives));
  if (!completions) return completions.failure();
  completions_ = std::move(completions).value();
  auto shared = device_->create_shared_receive_queue(receives);
  if (!shared) return shared.failure();
  receives_ = std::move(shared).value();
  return build_datagrams();
}

Result<bool> Rail::build_datagrams() {
  auto completions = device_->create_completion_queue(2 * kDatagrams);
  if (!completions) return completions.failure();
  datagram_completions_ = std::move(completions).value();
  datagrams_.pages = Pages(2 * kDatagrams * kDatagramBytes);
  if (datagrams_.pages.data() == nullptr) return Failure{Error::kNoMemory, "no memory"};
  auto region =
      device_->register_memory(datagrams_.pages.data(), datagrams_.pages.size(), kLocalWrite);
  if (!region) return region.failure();
  datagrams_.region = std::move(region).value();
  QueuePairOptions options;
  options.kind = QueuePairOptions::Kind::kDatagram;
  options.completions = datagram_completions_.get();
  options.send_depth = kDatagrams;
  options.receive_depth = kDatagrams;
  options.port = port_.port;
  options.queue_key = random_word() & 0x7fffffff;  // the high bit is for privileged users
  auto pair = device_->create_queue_pair(options);
  if (!pair) return pair.failure();
  datagram_pair_ = std::move(pair).value();
  for (std::uint32_t slot = 0; slot < kDatagrams; ++slot) {
    if (!post_datagram_receive(slot)) {
      return Failure{Error::kUnreachable, "no receive could be posted"};
    }
  }
  address_.gid = gid_.gid;
  address_.queue_pair = datagram_pair_->number();
  address_.queue_key = options.queue_key;
  address_.lid = port_.lid;
  address_.mtu_bytes = static_cast<std::uint16_t>(
      config_.mtu_bytes != 0 ? std::min(config_.mtu_bytes, port_.mtu_bytes) : port_.mtu_bytes);
  address_.global = port_.link == LinkLayer::kEthernet || port_.lid == 0 ? 1 : 0;
  return true;
}

Route Rail::route_to(const wire::RailAddress& remote) const {
  return {.gid = remote.gid,
          .lid = remote.lid,
          .global = remote.global != 0,
          .port = port_.port,
          .gid_index = static_cast<std::uint8_t>(gid_.index),
          .service_level = config_.service_level,
          .traffic_class = config_.traffic_class};
}

Result<std::unique_ptr<QueuePair>> Rail::create_queue_pair() {
  QueuePairOptions options;
  options.completions = completions_.get();
  options.receives = receives_.get();
  options.send_depth = kSendDepth;
  options.inline_bytes = kInlineBytes;
  options.port = port_.port;
  return device_->create_queue_pair(options);
}

Result<bool> Rail::reserve_receives() {
  while (!unposted_.empty() && post_receive(unposted_.back()))
    unposted_.pop_back();
  if (!unposted_.empty()) return Failure{Error::kNoMemory, "the shared receive queue is full"};
  if (spare_slabs_ != 0) {
    --spare_slabs_;
    return true;
  }
  Slab slab;
  slab.pages = Pages(std::size_t{kReceivesPerPath} * kPacketBytes);
  if (slab.pages.data() == nullptr) return Failure{Error::kNoMemory, "no memory"};
  auto region = registrations_->register_memory(slab.pages.data(), slab.pages.size(), kLocalWrite);
  if (!region) return region.failure();
  slab.region = std::move(region).value();
  const std::uint64_t first = slabs_.size() * kReceivesPerPath;
  unposted_.reserve(first + kReceivesPerPath);
  slabs_.push_back(std::move(slab));
  for (std::uint64_t id = first; id < first + kReceivesPerPath; ++id) {
    if (post_receive(id)) continue;
    // What was posted belongs to the adapter: the slab stays, and so does what it lacks.
    for (; id < first + kReceivesPerPath; ++id)
      unposted_.push_back(id);
    release_receives();
    return Failure{Error::kNoMemory, "the shared receive queue is full"};
  }
  return true;
}

std::byte* Rail::receive_buffer(std::uint64_t id) const noexcept {
  return slabs_[id / kReceivesPerPath].pages.data() + id % kReceivesPerPath * kPacketBytes;
}

bool Rail::post_receive(std::uint64_t id) noexcept {
  return receives_->post_receive(
             {.id = id,
              .address = receive_buffer(id),
              .bytes = kPacketBytes,
              .local_key = slabs_[id / kReceivesPerPath].region->local_key()}) == 0;
}

void Rail::repost() {
  while (spent_count_ != 0) {
    const std::uint64_t id = spent_[--spent_count_];
    if (!post_receive(id)) unposted_.push_back(id);
  }
  while (!unposted_.empty() && post_receive(unposted_.back()))
    unposted_.pop_back();
}

bool Rail::post_datagram_receive(std::uint64_t slot) noexcept {
  return datagram_pair_->post_receive({.id = slot,
                                       .address = datagrams_.pages.data() + slot * kDatagramBytes,
                                       .bytes = kDatagramBytes,
                                       .local_key = datagrams_.region->local_key()}) == 0;
}

bool Rail::send_datagram(const wire::RailAddress& remote, std::span<const std::byte> bytes) {
  constexpr std::size_t kHandles = 64;
  if (datagrams_sending_ == kDatagrams || bytes.size() > kDatagramBytes) return false;
  auto known = std::find_if(handles_.begin(), handles_.end(),
                            [&](const Handle& handle) { return handle.remote == remote; });
  if (known == handles_.end()) {
    auto made = device_->create_address_handle(route_to(remote));
    if (!made) return false;
    // One that is in use is not among the oldest: there are fewer sends under way than handles.
    if (handles_.size() == kHandles && datagrams_sending_ == 0) handles_.pop_front();
    handles_.push_back({remote, std::move(made).value()});
    known = std::prev(handles_.end());
  }
  const std::uint64_t slot = next_datagram_++ % kDatagrams;
  std::byte* address = datagrams_.pages.data() + (kDatagrams + slot) * kDatagramBytes;
  std::memcpy(address, bytes.data(), bytes.size());
  const SendRequest request{.id = kSent | slot,
                            .signaled = true,
                            .address = address,
                            .bytes = static_cast<std::uint32_t>(bytes.size()),
                            .local_key = datagrams_.region->local_key(),
                            .handle = known->handle.get(),
                            .remote_queue_pair = remote.queue_pair,
                            .queue_key = remote.queue_key};
  if (datagram_pair_->post_send(request) != 0) return false;
  ++datagrams_sending_;
  return true;
}

}  // namespace mooncake_mpi::verbs
