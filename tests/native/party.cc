#include "party.h"

#include <chrono>
#include <thread>

#include "base/clock.h"
#include "cuda_device.h"
#include "parties.h"

namespace mooncake_mpi::testing {

void PrintTo(const Lane& lane, std::ostream* out) {
  *out << lane.name;
}

Job::Job(const Lane& lane, int size, const ProtocolLimits& limits,
         const std::function<void(verbs_driver::FakeFabric&)>& prepare)
    : network_(lane.fake),
      has_threads_(lane.kind == Lane::Kind::kVerbs || lane.kind == Lane::Kind::kTcp ||
                   lane.kind == Lane::Kind::kTcpFake || lane.cuda) {
  if (lane.rough) {
    internet_->weather.most_bytes = 1000;
    internet_->weather.stall_every = 3;
    internet_->weather.buffer_bytes = 8 * 1024;
  }
  if (prepare) prepare(fabric_);
  if (lane.cuda) start_cuda(lane.opens);
  const auto place = [&](bool device, bool shared) {
    return device   ? lane.cuda ? Place::kCuda : Place::kDevice
           : shared ? Place::kShared
                    : Place::kOrdinary;
  };
  place_buffers(place(lane.send_device, lane.send_shared),
                place(lane.receive_device, lane.receive_shared));
  parties_ = lane.kind == Lane::Kind::kFake
                 ? make_fake_parties(network_, limits, size)
                 : make_engine_parties(lane, fabric_, *internet_, limits, size);
  dead_.resize(parties_.size());
}

Job::~Job() = default;

bool Job::run_until(const std::function<bool()>& done) {
  // A lane may have timers, and threads of its own: where nothing happens for so long it hangs.
  constexpr std::uint64_t kPatienceNs = 20'000'000'000u;
  for (std::uint64_t last = now_ns(); now_ns() - last < kPatienceNs;) {
    bool happened = false;
    if (run_until_idle(done, &happened)) return true;
    if (happened) last = now_ns();
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return done();
}

// Parties that share one thread never wait for each other: after a few idle rounds nothing more
// happens by itself.
bool Job::run_until_idle(const std::function<bool()>& done, bool* happened) {
  for (int idle = 0; idle < 5; ++idle) {
    if (done()) return true;
    for (std::size_t rank = 0; rank < parties_.size(); ++rank) {
      if (!dead_[rank] && parties_[rank]->progress() != 0) idle = -1;
    }
    *happened |= idle < 0;
  }
  return done();
}

void Job::step() {
  const std::size_t rank = turn_++ % parties_.size();
  if (!dead_[rank]) parties_[rank]->progress();
}

void Job::kill(int rank) {
  dead_[static_cast<std::size_t>(rank)] = true;
  parties_[static_cast<std::size_t>(rank)]->stop();
  for (std::size_t other = 0; other < parties_.size(); ++other) {
    if (!dead_[other]) parties_[other]->fail(rank);
  }
}

bool Job::finish(const std::vector<Operation*>& operations) {
  return run_until([&] {
    for (const Operation* operation : operations) {
      if (!operation->done) return false;
    }
    return true;
  });
}

bool Job::finish(std::initializer_list<Operation*> operations) {
  return finish(std::vector<Operation*>(operations));
}

// Where a lane has threads of its own, what they find to do is not seen here: they get some time,
// on a busy machine, too. Who knows what is to come waits for it with run_until().
void Job::settle(int rounds) {
  for (int idle = 0; idle < (has_threads_ ? rounds : 5); ++idle) {
    for (std::size_t rank = 0; rank < parties_.size(); ++rank) {
      if (!dead_[rank] && parties_[rank]->progress() != 0) idle = -1;
    }
    if (has_threads_) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

}  // namespace mooncake_mpi::testing
