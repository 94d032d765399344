#include "drivers/linux/fake_sockets.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace mooncake_mpi::linux_driver {
namespace {

using Weather = FakeInternet::Weather;

class FakeSocket final : public Socket {
 public:
  FakeSocket(std::shared_ptr<FakeInternet> internet, std::unique_ptr<Socket> socket,
             const Endpoint& local, const Endpoint& remote, bool answered)
      : internet_(std::move(internet)),
        socket_(std::move(socket)),
        local_(local),
        remote_(remote),
        answered_(answered),
        resets_(weather().resets.load()) {}

  int descriptor() const noexcept override { return socket_->descriptor(); }

  ssize_t send(std::span<const iovec> pieces) noexcept override {
    if (broken()) return -ECONNRESET;
    // A new connection has room for a few bytes.
    if (pieces[0].iov_len > 16 && stalls()) return -EAGAIN;
    std::array<iovec, 4> some;
    const ssize_t sent = socket_->send(cut_short(pieces, some));
    if (sent > 0) internet_->count_send();
    return sent;
  }

  ssize_t receive(std::span<const iovec> pieces) noexcept override {
    if (broken()) return -ECONNRESET;
    if (stalls()) return -EAGAIN;
    std::array<iovec, 4> some;
    return socket_->receive(cut_short(pieces, some));
  }

  int connect_status() noexcept override { return answered_ ? 0 : EINPROGRESS; }
  std::uint64_t unconfirmed_bytes() const noexcept override { return socket_->unconfirmed_bytes(); }
  void keep_alive(std::uint64_t) noexcept override {}
  std::uint64_t silence_ns() const noexcept override { return weather().silence_ns.load(); }
  void cut() noexcept override { socket_->cut(); }
  Endpoint local() const noexcept override { return local_; }
  Endpoint remote() const noexcept override { return remote_; }

 private:
  const Weather& weather() const noexcept { return internet_->weather; }

  bool broken() noexcept {
    if (weather().resets.load() == resets_) return false;
    socket_->cut();
    return true;
  }
  bool stalls() noexcept {
    const std::uint32_t every = weather().stall_every.load();
    // Hashed: else it might meet the same call of every turn for ever.
    return every != 0 && (++calls_ * 2'654'435'761u >> 8) % every == 0;
  }
  std::span<const iovec> cut_short(std::span<const iovec> pieces,
                                   std::array<iovec, 4>& some) const noexcept {
    std::size_t left = weather().most_bytes.load();
    std::size_t count = 0;
    for (const iovec& piece : pieces) {
      if (left == 0 || count == some.size()) break;
      some[count++] = {piece.iov_base, std::min(piece.iov_len, left)};
      left -= some[count - 1].iov_len;
    }
    return std::span(some).first(count);
  }

  std::shared_ptr<FakeInternet> internet_;
  std::unique_ptr<Socket> socket_;
  Endpoint local_;
  Endpoint remote_;
  bool answered_;
  std::uint64_t resets_;
  std::uint32_t calls_ = 0;
};

bool takes_one(std::atomic<int>& left) noexcept {
  for (int now = left.load(); now > 0;) {
    if (left.compare_exchange_weak(now, now - 1)) return true;
  }
  return false;
}

}  // namespace

class FakeListener final : public Listener {
 public:
  FakeListener(std::shared_ptr<FakeInternet> internet, const Endpoint& endpoint)
      : internet_(std::move(internet)),
        endpoint_(endpoint),
        door_(std::make_shared<FakeInternet::Door>()) {
    door_->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    const std::lock_guard lock(internet_->mutex_);
    internet_->doors_[to_string(endpoint)] = door_;
  }
  ~FakeListener() override {
    const std::lock_guard lock(internet_->mutex_);
    internet_->doors_.erase(to_string(endpoint_));
    close(door_->bell);
  }

  int descriptor() const noexcept override { return door_->bell; }
  Endpoint endpoint() const noexcept override { return endpoint_; }
  int listen() noexcept override {
    const std::lock_guard lock(internet_->mutex_);
    door_->listens = true;
    return 0;
  }
  std::unique_ptr<Socket> accept(int& error) override {
    const std::lock_guard lock(internet_->mutex_);
    error = EAGAIN;
    if (door_->waiting.empty() || internet_->weather.held.load()) return nullptr;
    error = EMFILE;
    if (takes_one(internet_->weather.no_descriptors)) return nullptr;
    const bool last = internet_->weather.last_first.load();
    std::unique_ptr<Socket> socket =
        std::move(last ? door_->waiting.back() : door_->waiting.front());
    last ? door_->waiting.pop_back() : door_->waiting.pop_front();
    std::uint64_t count;
    if (door_->waiting.empty()) [[maybe_unused]]
      const ssize_t rung = read(door_->bell, &count, sizeof count);
    return socket;
  }

 private:
  std::shared_ptr<FakeInternet> internet_;
  Endpoint endpoint_;
  std::shared_ptr<FakeInternet::Door> door_;
};

class FakeNetwork final : public Network {
 public:
  FakeNetwork(std::shared_ptr<FakeInternet> internet, std::vector<Interface> interfaces)
      : internet_(std::move(internet)), interfaces_(std::move(interfaces)) {}

  std::vector<Interface> interfaces() override { return interfaces_; }

  std::unique_ptr<Listener> bind(const Endpoint& endpoint, int& error) override {
    Endpoint taken = endpoint;
    taken.address.scope = 0;
    {
      const std::lock_guard lock(internet_->mutex_);
      if (taken.port == 0) taken.port = internet_->next_port_++;
      if (internet_->doors_.contains(to_string(taken))) {
        error = EADDRINUSE;
        return nullptr;
      }
    }
    return std::make_unique<FakeListener>(internet_, taken);
  }

  std::unique_ptr<Socket> connect(const Endpoint& endpoint, int& error) override {
    const std::lock_guard lock(internet_->mutex_);
    ++internet_->connects_;
    if (takes_one(internet_->weather.no_descriptors)) {
      error = EMFILE;
      return nullptr;
    }
    const auto blocked = internet_->blocked_.find(to_string(endpoint.address));
    const bool silent = blocked != internet_->blocked_.end() && blocked->second == 0;
    if (blocked != internet_->blocked_.end() && !silent) {
      error = blocked->second;
      return nullptr;
    }
    const auto door = internet_->doors_.find(to_string(endpoint));
    const bool open = door != internet_->doors_.end() && door->second->listens;
    if (!silent && (!open || takes_one(internet_->weather.refusals))) {
      error = ECONNREFUSED;
      return nullptr;
    }
    std::array<int, 2> pair;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()) != 0) {
      error = errno;
      return nullptr;
    }
    const int bytes = static_cast<int>(internet_->weather.buffer_bytes.load());
    for (const int end : pair) {
      if (bytes != 0) setsockopt(end, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    }
    const Endpoint local{interfaces_.front().address, internet_->next_port_++};
    auto here =
        std::make_unique<FakeSocket>(internet_, adopt_socket(pair[0]), local, endpoint, !silent);
    auto there =
        std::make_unique<FakeSocket>(internet_, adopt_socket(pair[1]), endpoint, local, true);
    if (silent) {
      lost_.push_back(std::move(there));
      return here;
    }
    door->second->waiting.push_back(std::move(there));
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t rung = write(door->second->bell, &one, sizeof one);
    return here;
  }

 private:
  std::shared_ptr<FakeInternet> internet_;
  std::vector<Interface> interfaces_;
  std::vector<std::unique_ptr<Socket>> lost_;  // the other ends of what gets through to nobody
};

std::shared_ptr<Network> FakeInternet::add_host(int addresses) {
  const std::lock_guard lock(mutex_);
  const auto host = static_cast<std::byte>(++hosts_);
  std::vector<Interface> interfaces;
  for (int i = 0; i < addresses; ++i) {
    Interface one;
    one.name = "eth" + std::to_string(i);
    one.index = static_cast<std::uint32_t>(i + 1);
    one.address.bytes = {std::byte{10}, static_cast<std::byte>(i), std::byte{0}, host};
    one.prefix_bits = 24;
    one.up = true;
    interfaces.push_back(std::move(one));
  }
  return std::make_shared<FakeNetwork>(shared_from_this(), std::move(interfaces));
}

void FakeInternet::block(const IpAddress& address, int error) {
  const std::lock_guard lock(mutex_);
  blocked_[to_string(address)] = error;
}

}  // namespace mooncake_mpi::linux_driver
