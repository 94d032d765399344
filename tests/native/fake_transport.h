// A lane without shared memory or system calls: packets wait in queues between the processes of a
// FakeNetwork, which are objects of one test. Its limits are the test's to choose. One thread plays
// every rank; there is no lock.
#pragma once

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "transport/copy/copy_mover.h"
#include "transport/transport.h"

namespace mooncake_mpi::testing {

struct FakeLimits {
  std::size_t packets = 8;                // that a channel holds until its reader polls
  std::size_t payload_bytes = 16 * 1024;  // of a packet
  bool reads_peer = true;                 // or every large message is streamed
  std::size_t jobs = 2;                   // copies that both sides share, per channel
  bool writes_peer = true;                // or a sender that helps fails at it
};

// What flows from one process to another.
struct FakePipe {
  struct Packet {
    wire::Header header;
    std::vector<std::byte> payload;
  };
  std::deque<Packet> packets;
  std::uint64_t credit_returned = 0;
  std::uint32_t advice = 0;
  std::deque<CopyJob> jobs;
  std::vector<bool> job_in_use;
};

class FakeNetwork {
 public:
  explicit FakeNetwork(FakeLimits limits = {}) : limits_(limits) {}

  const FakeLimits& limits() const { return limits_; }

  FakePipe& pipe(const ProcessId& from, const ProcessId& to) {
    FakePipe& pipe = pipes_[{from, to}];
    while (pipe.jobs.size() < limits_.jobs) {
      pipe.jobs.emplace_back();
      pipe.job_in_use.push_back(false);
    }
    return pipe;
  }

  // Calls visit(process, pipe) for everyone who has a pipe to `to`.
  template <class Visit>
  void for_each_into(const ProcessId& to, Visit&& visit) {
    for (auto& [ends, pipe] : pipes_) {
      if (ends.second == to) visit(ends.first, pipe);
    }
  }

 private:
  FakeLimits limits_;
  std::map<std::pair<ProcessId, ProcessId>, FakePipe> pipes_;
};

class FakeChannel final : public Channel {
 public:
  FakeChannel(const FakeLimits& limits, FakePipe& out, FakePipe& in)
      : limits_(limits), out_(out), in_(in) {}

  bool try_send(const wire::Header& header, Bytes prefix, Bytes payload) noexcept override {
    if (out_.packets.size() >= limits_.packets) return false;
    if (prefix.size() > kMaxPrefixBytes || prefix.size() + payload.size() > max_payload_bytes()) {
      std::abort();  // a promise of the interface is broken
    }
    FakePipe::Packet packet{header, {prefix.begin(), prefix.end()}};
    packet.payload.insert(packet.payload.end(), payload.begin(), payload.end());
    out_.packets.push_back(std::move(packet));
    return true;
  }

  std::size_t max_payload_bytes() const noexcept override { return limits_.payload_bytes; }
  void return_credit(std::uint32_t bytes) noexcept override { in_.credit_returned += bytes; }
  std::uint64_t returned_credit() const noexcept override { return out_.credit_returned; }
  void advise(std::uint32_t advice) noexcept override { in_.advice = advice; }
  std::uint32_t advice() const noexcept override { return out_.advice; }

 private:
  const FakeLimits& limits_;
  FakePipe& out_;
  FakePipe& in_;
};

// Reads and writes by the kernel, which refuses memory that is not there.
class FakeMover final : public CopyMover {
 public:
  FakeMover(CopyWork& work, Peer& peer, const FakeLimits& limits, FakePipe& out, FakePipe& in)
      : CopyMover(work, peer), limits_(limits), out_(out), in_(in) {}
  wire::LaneId lane() const noexcept override { return 200; }
  bool reaches_everything() const noexcept override { return limits_.reads_peer; }

 private:
  Reach reach(const RemoteMemory&, std::uint64_t) noexcept override {
    return limits_.reads_peer ? Reach::kKernel : Reach::kNone;
  }
  Error read(void* local, const RemoteMemory& remote, std::size_t bytes, bool) noexcept override {
    return copy({local, bytes}, {reinterpret_cast<void*>(remote.address), bytes}, process_vm_readv);
  }
  Error write(const void* local, const RemoteMemory& remote, std::size_t bytes,
              bool) noexcept override {
    if (!limits_.writes_peer) return Error::kBuffer;
    return copy({const_cast<void*>(local), bytes}, {reinterpret_cast<void*>(remote.address), bytes},
                process_vm_writev);
  }
  std::uint32_t acquire_job() noexcept override {
    const auto free = std::find(in_.job_in_use.begin(), in_.job_in_use.end(), false);
    if (free == in_.job_in_use.end()) return kNoJob;
    *free = true;
    return static_cast<std::uint32_t>(free - in_.job_in_use.begin());
  }
  void release_job(std::uint32_t job) noexcept override { in_.job_in_use[job] = false; }
  CopyJob* own_job(std::uint32_t job) noexcept override {
    return job < in_.jobs.size() ? &in_.jobs[job] : nullptr;
  }
  CopyJob* peer_job(std::uint32_t job) noexcept override {
    return job < out_.jobs.size() ? &out_.jobs[job] : nullptr;
  }

  template <class Call>
  static Error copy(iovec local, iovec remote, Call call) noexcept {
    const ssize_t done = call(getpid(), &local, 1, &remote, 1, 0);
    return done == static_cast<ssize_t>(local.iov_len) ? Error::kNone : Error::kBuffer;
  }

  const FakeLimits& limits_;
  FakePipe& out_;
  FakePipe& in_;
};

class FakeTransport final : public Transport {
 public:
  FakeTransport(FakeNetwork& network, const ProcessId& process, const CopyLimits& limits,
                MoverCounters& counters)
      : network_(network), process_(process), work_({.limits = limits}, counters) {}

  std::string_view name() const noexcept override { return "fake"; }
  void describe(wire::Address&) const override {}
  std::string unreachable_reason(const wire::Address&) const override { return {}; }

  Result<Way> connect(const wire::Address& address, Peer& peer) override {
    FakePipe& out = network_.pipe(process_, address.uid);
    FakePipe& in = network_.pipe(address.uid, process_);
    return Way{std::make_unique<FakeChannel>(network_.limits(), out, in),
               std::make_unique<FakeMover>(work_, peer, network_.limits(), out, in)};
  }

  unsigned poll(PacketSink& sink) override {
    unsigned count = 0;
    network_.for_each_into(process_, [&](const ProcessId& from, FakePipe& pipe) {
      if (pipe.packets.empty()) return;
      Peer* peer = sink.on_connect(from);
      for (std::size_t left = pipe.packets.size(); peer != nullptr && left > 0; --left) {
        const FakePipe::Packet packet = std::move(pipe.packets.front());
        pipe.packets.pop_front();
        sink.on_packet(*peer, packet.header, packet.payload);
        ++count;
      }
    });
    return count + work_.advance(sink);
  }

 private:
  FakeNetwork& network_;
  ProcessId process_;
  CopyWork work_;
};

}  // namespace mooncake_mpi::testing
