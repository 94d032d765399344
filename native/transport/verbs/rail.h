#pragma once

// One port of this process: its queues, its receive buffers, and the datagram queue pair that peers
// wire up with. Engine lock held, but for the events of its device, which the watcher takes.

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "drivers/verbs/verbs.h"
#include "transport/verbs/config.h"
#include "transport/verbs/pages.h"
#include "transport/verbs/registrations.h"
#include "wire/verbs.h"

namespace mooncake_mpi::verbs {

struct Connection;

class Rail {
 public:
  // A port that is down is opened where its address is known already; it is used once it is up.
  static Result<std::unique_ptr<Rail>> open(verbs_driver::Provider& provider,
                                            const verbs_driver::PortInfo& port,
                                            const Config& config, SharedPool* pool);

  // The entry of the GID table that is used, or why there is none.
  static Result<verbs_driver::GidEntry> choose_gid(const verbs_driver::PortInfo& port,
                                                   const Config& config);

  const verbs_driver::PortInfo& port() const noexcept { return port_; }
  verbs_driver::Device& device() const noexcept { return *device_; }
  Registrations& registrations() noexcept { return *registrations_; }
  verbs_driver::CompletionQueue& completions() const noexcept { return *completions_; }
  verbs_driver::CompletionQueue& datagram_completions() const noexcept {
    return *datagram_completions_;
  }
  const wire::RailAddress& address() const noexcept { return address_; }
  verbs_driver::Route route_to(const wire::RailAddress& remote) const;

  // "mlx5_0:1"
  std::string name() const { return port_.device + ":" + std::to_string(port_.port); }

  bool active() const noexcept { return active_; }
  void set_active(bool active) noexcept { active_ = active; }

  // Of the adapter to the core that opened it.
  int distance() const noexcept { return distance_; }
  void set_distance(int distance) noexcept { distance_ = distance; }

  Result<std::unique_ptr<verbs_driver::QueuePair>> create_queue_pair();

  // Receive buffers for one more path, or back when it is gone: they stay posted for the next one.
  Result<bool> reserve_receives();
  void release_receives() noexcept { ++spare_slabs_; }
  std::byte* receive_buffer(std::uint64_t id) const noexcept;
  // A buffer is the adapter's again: not at once, as the program waits for what came in it.
  void repost_later(std::uint64_t id) {
    spent_[spent_count_++] = id;
    if (spent_count_ == kSpentReceives) repost();
  }
  bool has_spent() const noexcept { return spent_count_ != 0; }
  void repost();

  bool send_datagram(const wire::RailAddress& remote, std::span<const std::byte> bytes);
  // Calls visit(bytes) for every datagram that has come; their number.
  template <class Visit>
  unsigned poll_datagrams(Visit&& visit);

  // What the adapter has done: takes some if none is left, and says how many are left.
  static constexpr unsigned kCompletions = 16;
  unsigned take_completions() noexcept {
    if (next_done_ == done_count_) {
      next_done_ = 0;
      done_count_ = static_cast<unsigned>(std::max(completions_->poll(done_), 0));
    }
    return done_count_ - next_done_;
  }
  const verbs_driver::WorkCompletion* next_completion() const noexcept {
    return next_done_ != done_count_ ? &done_[next_done_] : nullptr;
  }
  void pass_completion() noexcept { ++next_done_; }

  // The connected queue pairs by their number.
  std::unordered_map<std::uint32_t, Connection*> connections;

 private:
  struct Slab {
    Pages pages;
    std::unique_ptr<verbs_driver::MemoryRegion> region;
  };
  static constexpr std::uint32_t kDatagrams = 64;
  static constexpr std::uint32_t kDatagramBytes = 256;
  static constexpr std::uint32_t kGrhBytes = 40;
  static constexpr std::uint64_t kSent = std::uint64_t{1} << 32;

  Rail(const verbs_driver::PortInfo& port, const Config& config, SharedPool* pool)
      : port_(port), config_(config), pool_(pool) {}
  Result<bool> build(verbs_driver::Provider& provider);
  Result<bool> build_datagrams();
  bool post_datagram_receive(std::uint64_t slot) noexcept;
  bool post_receive(std::uint64_t id) noexcept;

  verbs_driver::PortInfo port_;
  const Config& config_;
  SharedPool* pool_;  // whose memory stays registered; or nullptr
  verbs_driver::GidEntry gid_;
  wire::RailAddress address_;
  bool active_ = true;
  int distance_ = 0;
  // Closed in reverse order.
  std::unique_ptr<verbs_driver::Device> device_;
  std::optional<Registrations> registrations_;
  std::unique_ptr<verbs_driver::CompletionQueue> completions_;
  std::unique_ptr<verbs_driver::CompletionQueue> datagram_completions_;
  std::unique_ptr<verbs_driver::SharedReceiveQueue> receives_;
  std::vector<Slab> slabs_;
  std::uint32_t spare_slabs_ = 0;
  std::array<verbs_driver::WorkCompletion, kCompletions> done_{};
  unsigned next_done_ = 0;
  unsigned done_count_ = 0;
  std::array<std::uint64_t, kSpentReceives> spent_{};
  std::uint32_t spent_count_ = 0;
  std::vector<std::uint64_t> unposted_;  // buffers that the adapter refused; tried again
  Slab datagrams_;
  std::unique_ptr<verbs_driver::QueuePair> datagram_pair_;
  std::uint32_t datagrams_sending_ = 0;
  std::uint32_t next_datagram_ = 0;
  struct Handle {
    wire::RailAddress remote;
    std::unique_ptr<verbs_driver::AddressHandle> handle;
  };
  std::deque<Handle> handles_;  // the latest ones
};

template <class Visit>
unsigned Rail::poll_datagrams(Visit&& visit) {
  constexpr int kBatch = 8;
  verbs_driver::WorkCompletion done[kBatch];
  unsigned received = 0;
  for (int count = kBatch; count == kBatch;) {
    count = datagram_completions_->poll(done);
    for (int i = 0; i < count; ++i) {
      if ((done[i].id & kSent) != 0) {
        --datagrams_sending_;
        continue;
      }
      if (done[i].status == verbs_driver::Status::kSuccess && done[i].bytes >= kGrhBytes) {
        const std::byte* slot = datagrams_.pages.data() + done[i].id * kDatagramBytes;
        try {
          visit(std::span<const std::byte>(slot + kGrhBytes, done[i].bytes - kGrhBytes));
        } catch (const std::bad_alloc&) {  // as if it were lost: what it says is said again
        }
        ++received;
      }
      post_datagram_receive(done[i].id);
    }
  }
  return received;
}

}  // namespace mooncake_mpi::verbs
