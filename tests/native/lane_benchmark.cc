// Two processes and one lane: half of a round trip, the throughput of many messages under way, or
// what a small message costs on adapters in memory. Engine only, no Python, no MPI library.
//
//   lane_benchmark latency|bandwidth [--lane verbs|shm] [--bytes N] [--iterations N] [--window N]
//                  [--devices OURS --peer-devices THEIRS] [--fragment BYTES]
//                  [--spin MICROSECONDS] [--patience MICROSECONDS] [--memory ordinary|pool]
//                  [--eager BYTES]
//   lane_benchmark count [--lane verbs|shm] [--bytes N] [--iterations N] [--memory ordinary|pool]
//
// `count` runs both ends in one thread: valgrind --tool=callgrind --toggle-collect=counted_messages
// tells the instructions, and the program itself the allocations.
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "counted_allocations.h"
#include "drivers/verbs/fake_fabric.h"
#include "engine/engine.h"
#include "transport/self/lane.h"
#include "transport/shm/lane.h"
#include "transport/verbs/lane.h"

namespace {

using namespace mooncake_mpi;

constexpr MatchChannel kMessages = MatchChannel::kMessages;
constexpr std::uint64_t kPatienceNs = 60'000'000'000u;

struct Options {
  std::string what;
  std::string lane = "verbs";
  std::vector<std::string> devices[2];
  std::size_t bytes = 8;
  std::size_t iterations = 1000;
  std::size_t window = 64;
  std::uint32_t fragment = 0;
  std::uint64_t spin_us = 0;
  std::uint64_t patience_us = 0;
  std::uint64_t eager = 0;
  bool pool = false;  // the messages lie in memory made for them
};

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "lane_benchmark: %s\n", why.c_str());
  std::_Exit(1);
}

template <class T>
T take(Result<T> result) {
  if (!result) die(result.failure().message);
  return std::move(result).value();
}

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> names;
  for (std::size_t end; !list.empty(); list.remove_prefix(std::min(end + 1, list.size()))) {
    end = std::min(list.find(','), list.size());
    names.emplace_back(list.substr(0, end));
  }
  return names;
}

// The bytes of a message, touched.
class Message {
 public:
  explicit Message(const Options& options)
      : ordinary_(options.pool ? 0 : options.bytes),
        bytes_(options.pool ? process_pool().allocate(options.bytes).address : ordinary_.data(),
               options.bytes) {
    if (bytes_.data() == nullptr) die("no memory");
    std::memset(bytes_.data(), 1, bytes_.size());
  }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
  ~Message() { process_pool().free(bytes_.data()); }
  operator std::span<std::byte>() const { return bytes_; }

 private:
  std::vector<std::byte> ordinary_;
  std::span<std::byte> bytes_;
};

// One process of the two.
class Endpoint {
 public:
  Endpoint(const EngineConfig& config, const std::vector<Lane>& lanes, int rank)
      : engine_(take(Engine::create(config, lanes))),
        context_(*take(engine_->create_context(rank, 2))),
        other_(1 - rank) {}

  wire::Address address() const { return engine_->address(context_); }
  void activate(const std::vector<wire::Address>& members) {
    take(engine_->activate(context_, members));
  }
  void progress() { engine_->progress(); }

  Operation* start_send(std::span<std::byte> bytes) {
    const Buffer buffer{bytes.data(), bytes.size()};
    if (engine_->try_send_now(context_, kMessages, other_, 1, buffer)) return nullptr;
    return take(engine_->send(context_, kMessages, other_, 1, buffer, SendMode::kStandard));
  }
  Operation* start_receive(std::span<std::byte> bytes) {
    return engine_->receive(context_, kMessages, other_, 1, {bytes.data(), bytes.size()});
  }
  bool is_done(const Operation* operation) const {
    return operation == nullptr || operation->done.load(std::memory_order_acquire) != 0;
  }
  void finish(Operation* operation) {
    if (operation == nullptr) return;
    if (!is_done(operation) &&
        engine_->wait([&] { return is_done(operation); }, kPatienceNs) == WaitResult::kTimeout) {
      die("no message for a minute");
    }
    if (operation->completion.error != Error::kNone) die("a message failed");
    engine_->release(*operation);
  }
  void send(std::span<std::byte> bytes) { finish(start_send(bytes)); }
  void receive(std::span<std::byte> bytes) { finish(start_receive(bytes)); }
  bool flush() { return engine_->flush(kPatienceNs); }

 private:
  std::unique_ptr<Engine> engine_;
  Context& context_;
  std::int32_t other_;
};

EngineConfig configure(const Options& options) {
  EngineConfig config;
  config.pool = &process_pool();
  if (options.eager != 0) {
    config.limits.eager_bytes = config.limits.unmapped_eager_bytes = options.eager;
    config.limits.far_eager_bytes = options.eager;
  }
  if (options.spin_us != 0) config.spin_ns = options.spin_us * 1000;
  return config;
}

std::vector<Lane> lanes_of(const Options& options, int rank,
                           std::shared_ptr<verbs_driver::Provider> provider = nullptr) {
  if (options.lane == "shm") return {self_lane(), shm::lane()};
  verbs::Drivers drivers;
  drivers.provider = std::move(provider);
  drivers.config.devices = options.devices[rank];
  if (options.patience_us != 0) drivers.config.patience_ns = options.patience_us * 1000;
  if (options.fragment != 0) drivers.config.fragment_bytes = options.fragment;
  return {self_lane(), verbs::lane(drivers)};
}

// What the MPI library would do: the two swap their addresses.
void meet(Endpoint& endpoint, int socket, int rank) {
  std::vector<std::byte> own = wire::encode(endpoint.address());
  own.resize(1024);
  std::vector<std::byte> other(own.size());
  if (write(socket, own.data(), own.size()) != static_cast<ssize_t>(own.size()) ||
      recv(socket, other.data(), other.size(), MSG_WAITALL) != static_cast<ssize_t>(other.size())) {
    die("the other process is gone");
  }
  const auto first = wire::decode_address(own);
  const auto second = wire::decode_address(other);
  if (!first.address || !second.address) die("not an address");
  endpoint.activate(rank == 0 ? std::vector{*first.address, *second.address}
                              : std::vector{*second.address, *first.address});
}

double percentile(std::vector<double> samples, double share) {
  std::sort(samples.begin(), samples.end());
  return samples[static_cast<std::size_t>(share * static_cast<double>(samples.size() - 1))];
}

void latency(Endpoint& endpoint, int rank, const Options& options) {
  const Message message(options);
  std::vector<double> samples;
  const std::size_t warm_up = options.iterations / 10 + 10;
  const std::size_t count = warm_up + options.iterations;
  samples.reserve(count);
  std::uint64_t start = now_ns();
  for (std::size_t i = 0; i < count; ++i) {
    if (rank == 0) endpoint.send(message);
    endpoint.receive(message);
    if (rank == 1) endpoint.send(message);
    const std::uint64_t end = now_ns();
    if (i >= warm_up) samples.push_back(static_cast<double>(end - start) / 2000);
    start = end;
  }
  if (rank != 0) return;
  std::printf("%s, %zu B: half a round trip %.2f us (10 %%: %.2f, 90 %%: %.2f, of %zu)\n",
              options.lane.c_str(), options.bytes, percentile(samples, 0.5),
              percentile(samples, 0.1), percentile(samples, 0.9), samples.size());
}

void bandwidth(Endpoint& endpoint, int rank, const Options& options) {
  const Message message(options);
  std::vector<std::byte> answer(1);
  std::vector<Operation*> window(options.window);
  std::vector<double> samples;
  for (std::size_t i = 0; i < 1 + options.iterations; ++i) {
    const std::uint64_t start = now_ns();
    for (Operation*& operation : window)
      operation = rank == 0 ? endpoint.start_send(message) : endpoint.start_receive(message);
    for (Operation* operation : window)
      endpoint.finish(operation);
    rank == 0 ? endpoint.receive(answer) : endpoint.send(answer);
    const double bytes = static_cast<double>(options.bytes * options.window);
    if (i != 0) samples.push_back(bytes / 1.048576 * 1e3 / static_cast<double>(now_ns() - start));
  }
  if (rank != 0) return;
  std::printf("%s, %zu messages of %zu B: %.2f MiB/s (10 %%: %.2f, 90 %%: %.2f, of %zu)\n",
              options.lane.c_str(), options.window, options.bytes, percentile(samples, 0.5),
              percentile(samples, 0.1), percentile(samples, 0.9), samples.size());
}

int run_pair(const Options& options) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) die("socketpair");
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) die("fork");
  const int rank = child == 0 ? 1 : 0;
  {
    Endpoint endpoint(configure(options), lanes_of(options, rank), rank);
    meet(endpoint, sockets[rank], rank);
    options.what == "latency" ? latency(endpoint, rank, options)
                              : bandwidth(endpoint, rank, options);
    if (!endpoint.flush()) die("messages are left");
    // Neither ends before the other has all its messages.
    char word = 0;
    if (write(sockets[rank], &word, 1) != 1 || read(sockets[rank], &word, 1) != 1) return 1;
  }
  if (rank == 1) return 0;
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

}  // namespace

// Messages back and forth, both ends polled by turns; a name for callgrind.
extern "C" __attribute__((noinline)) void counted_messages(Endpoint* ends, std::size_t count,
                                                           std::span<std::byte> out,
                                                           std::span<std::byte> into) {
  for (std::size_t i = 0; i < count; ++i) {
    Endpoint& sender = ends[i % 2];
    Endpoint& receiver = ends[1 - i % 2];
    Operation* receive = receiver.start_receive(into);
    Operation* send = sender.start_send(out);
    while (!receiver.is_done(receive) || !sender.is_done(send)) {
      receiver.progress();
      if (!sender.is_done(send)) sender.progress();
    }
    sender.finish(send);
    receiver.finish(receive);
  }
}

namespace {

int count(const Options& options) {
  verbs_driver::FakeFabric fabric;
  const auto make = [&](int rank) {
    return Endpoint(configure(options), lanes_of(options, rank, fabric.make_provider(1)), rank);
  };
  Endpoint ends[2] = {make(0), make(1)};
  const std::vector members{ends[0].address(), ends[1].address()};
  for (Endpoint& end : ends)
    end.activate(members);
  // The first message waits until the two have wired up.
  std::byte byte{};
  Operation* send = ends[0].start_send({&byte, 1});
  Operation* receive = ends[1].start_receive({&byte, 1});
  while (!ends[0].is_done(send) || !ends[1].is_done(receive)) {
    ends[0].progress();
    ends[1].progress();
  }
  ends[0].finish(send);
  ends[1].finish(receive);
  const Message out(options);
  const Message into(options);
  counted_messages(ends, 1000, out, into);
  const std::uint64_t before = testing::allocations;
  counted_messages(ends, options.iterations, out, into);
  std::printf(
      "%.3f allocations a message, of %zu\n",
      static_cast<double>(testing::allocations - before) / static_cast<double>(options.iterations),
      options.iterations);
  return 0;
}

Options parse(int argc, char** argv) {
  Options options;
  if (argc < 2) die("latency, bandwidth or count? the head of its source says more");
  options.what = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const std::string value = argv[i + 1];
    const auto number = std::strtoull(value.c_str(), nullptr, 10);
    if (name == "--lane") {
      options.lane = value;
    } else if (name == "--devices") {
      options.devices[0] = split(value);
    } else if (name == "--peer-devices") {
      options.devices[1] = split(value);
    } else if (name == "--bytes") {
      options.bytes = number;
    } else if (name == "--iterations") {
      options.iterations = number;
    } else if (name == "--window") {
      options.window = number;
    } else if (name == "--spin") {
      options.spin_us = number;
    } else if (name == "--patience") {
      options.patience_us = number;
    } else if (name == "--eager") {
      options.eager = number;
    } else if (name == "--memory") {
      if (value != "pool" && value != "ordinary") die("--memory pool or ordinary");
      options.pool = value == "pool";
    } else if (name == "--fragment") {
      options.fragment = static_cast<std::uint32_t>(number);
    } else {
      die("no option " + std::string(name));
    }
  }
  if (options.iterations == 0 || options.window == 0) die("at least one message");
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (options.what == "count") return count(options);
  if (options.what == "latency" || options.what == "bandwidth") return run_pair(options);
  die("latency, bandwidth or count?");
}
