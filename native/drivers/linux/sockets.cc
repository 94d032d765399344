#include "drivers/linux/sockets.h"

#include <ifaddrs.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "drivers/linux/file_descriptor.h"

namespace mooncake_mpi::linux_driver {
namespace {

// Either version's address, as the system takes it.
struct SystemAddress {
  sockaddr_storage storage{};
  socklen_t bytes = sizeof(sockaddr_storage);

  sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
};

SystemAddress to_system(const Endpoint& endpoint) noexcept {
  SystemAddress to;
  if (endpoint.address.v6) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(endpoint.port);
    if (endpoint.address.is_link_local()) address.sin6_scope_id = endpoint.address.scope;
    std::memcpy(&address.sin6_addr, endpoint.address.bytes.data(), sizeof address.sin6_addr);
    std::memcpy(&to.storage, &address, sizeof address);
    to.bytes = sizeof address;
  } else {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(endpoint.port);
    std::memcpy(&address.sin_addr, endpoint.address.bytes.data(), sizeof address.sin_addr);
    std::memcpy(&to.storage, &address, sizeof address);
    to.bytes = sizeof address;
  }
  return to;
}

Endpoint from_system(const sockaddr* from) noexcept {
  Endpoint endpoint;
  if (from->sa_family == AF_INET6) {
    sockaddr_in6 address;
    std::memcpy(&address, from, sizeof address);
    endpoint.address.v6 = true;
    endpoint.port = ntohs(address.sin6_port);
    endpoint.address.scope = address.sin6_scope_id;
    std::memcpy(endpoint.address.bytes.data(), &address.sin6_addr, sizeof address.sin6_addr);
  } else if (from->sa_family == AF_INET) {
    sockaddr_in address;
    std::memcpy(&address, from, sizeof address);
    endpoint.port = ntohs(address.sin_port);
    std::memcpy(endpoint.address.bytes.data(), &address.sin_addr, sizeof address.sin_addr);
  }
  return endpoint;
}

template <class Ask>
Endpoint ask(int descriptor, Ask&& ask) noexcept {
  SystemAddress address;
  if (ask(descriptor, address.get(), &address.bytes) != 0) return {};
  return from_system(address.get());
}

void set_option(int descriptor, int level, int option, int value) noexcept {
  setsockopt(descriptor, level, option, &value, sizeof value);
}

class SystemSocket final : public Socket {
 public:
  explicit SystemSocket(int descriptor) noexcept : file_(descriptor) {
    set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
  }

  int descriptor() const noexcept override { return file_.number(); }

  ssize_t send(std::span<const iovec> pieces) noexcept override {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(pieces.data());
    message.msg_iovlen = pieces.size();
    for (;;) {
      const ssize_t sent = sendmsg(file_.number(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) return sent;
      if (errno != EINTR) return errno == ENOBUFS || errno == ENOMEM ? -EAGAIN : -errno;
    }
  }

  ssize_t receive(std::span<const iovec> pieces) noexcept override {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(pieces.data());
    message.msg_iovlen = pieces.size();
    for (;;) {
      const ssize_t received = pieces.size() == 1 ? recv(file_.number(), pieces[0].iov_base,
                                                         pieces[0].iov_len, MSG_DONTWAIT)
                                                  : recvmsg(file_.number(), &message, MSG_DONTWAIT);
      if (received >= 0) return received;
      if (errno != EINTR) return errno == ENOBUFS || errno == ENOMEM ? -EAGAIN : -errno;
    }
  }

  int connect_status() noexcept override {
    int error = 0;
    socklen_t bytes = sizeof error;
    if (getsockopt(file_.number(), SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) return errno;
    if (error != 0) return error;
    SystemAddress peer;
    if (getpeername(file_.number(), peer.get(), &peer.bytes) == 0) return 0;
    return errno == ENOTCONN ? EINPROGRESS : errno;
  }

  std::uint64_t unconfirmed_bytes() const noexcept override {
    int bytes = 0;
    return ioctl(file_.number(), SIOCOUTQ, &bytes) == 0 ? static_cast<std::uint64_t>(bytes) : 0;
  }

  // By the kernels: a process that is stopped, or at something else, is not taken to be gone.
  // TCP_USER_TIMEOUT would do that to one that reads nothing for a while.
  void keep_alive(std::uint64_t timeout_ns) noexcept override {
    const auto seconds =
        static_cast<int>(std::min<std::uint64_t>(timeout_ns / 1'000'000'000u, 100'000));
    const int descriptor = file_.number();
    set_option(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, std::clamp(seconds / 4, 1, 32'000));
    set_option(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, std::clamp(seconds / 8, 1, 32'000));
    set_option(descriptor, IPPROTO_TCP, TCP_KEEPCNT, 6);
  }

  std::uint64_t silence_ns() const noexcept override {
    tcp_info info{};
    socklen_t bytes = sizeof info;
    if (getsockopt(file_.number(), IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return 0;
    // Where the other side reads nothing it is asked ever more rarely: only what goes unanswered
    // counts.
    if (info.tcpi_retransmits < 2 && info.tcpi_probes < 2) return 0;
    return std::uint64_t{info.tcpi_last_ack_recv} * 1'000'000;
  }

  void cut() noexcept override { shutdown(file_.number(), SHUT_RDWR); }

  Endpoint local() const noexcept override { return ask(file_.number(), getsockname); }
  Endpoint remote() const noexcept override { return ask(file_.number(), getpeername); }

 private:
  FileDescriptor file_;
};

class SystemListener final : public Listener {
 public:
  explicit SystemListener(int descriptor) noexcept
      : file_(descriptor), endpoint_(ask(descriptor, getsockname)) {}

  int descriptor() const noexcept override { return file_.number(); }
  Endpoint endpoint() const noexcept override { return endpoint_; }
  int listen() noexcept override { return ::listen(file_.number(), SOMAXCONN) == 0 ? 0 : errno; }
  std::unique_ptr<Socket> accept(int& error) override {
    const int descriptor = accept4(file_.number(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor < 0) {
      error = errno;
      return nullptr;
    }
    return std::make_unique<SystemSocket>(out_of_the_way(descriptor));
  }

 private:
  FileDescriptor file_;
  Endpoint endpoint_;
};

int open_socket(const Endpoint& endpoint) noexcept {
  const int descriptor = socket(endpoint.address.v6 ? AF_INET6 : AF_INET,
                                SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return descriptor < 0 ? descriptor : out_of_the_way(descriptor);
}

// By their names, as people and programs give them, and by what the kernel says.
bool is_bridge(const std::string& name) {
  constexpr std::array<std::string_view, 9> kNames = {"docker",  "br-",  "virbr", "veth",  "cni",
                                                      "flannel", "cali", "lxc",   "podman"};
  if (std::ranges::any_of(kNames,
                          [&](std::string_view begin) { return name.starts_with(begin); })) {
    return true;
  }
  return access(("/sys/class/net/" + name + "/bridge").c_str(), F_OK) == 0;
}

unsigned prefix_bits(const sockaddr* mask) noexcept {
  if (mask == nullptr) return 0;
  unsigned bits = 0;
  for (const std::byte part : from_system(mask).address.bytes)
    bits += static_cast<unsigned>(std::popcount(static_cast<unsigned char>(part)));
  return bits;
}

class SystemNetwork final : public Network {
 public:
  std::vector<Interface> interfaces() override {
    std::vector<Interface> found;
    ifaddrs* first = nullptr;
    if (getifaddrs(&first) != 0) return found;
    for (const ifaddrs* each = first; each != nullptr; each = each->ifa_next) {
      const sockaddr* address = each->ifa_addr;
      if (address == nullptr) continue;
      if (address->sa_family != AF_INET && address->sa_family != AF_INET6) continue;
      Interface one;
      one.name = each->ifa_name;
      one.index = if_nametoindex(each->ifa_name);
      one.address = from_system(address).address;
      one.prefix_bits = prefix_bits(each->ifa_netmask);
      one.up = (each->ifa_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
      one.bridge = is_bridge(one.name);
      found.push_back(std::move(one));
    }
    freeifaddrs(first);
    return found;
  }

  std::unique_ptr<Listener> bind(const Endpoint& endpoint, int& error) override {
    const int descriptor = open_socket(endpoint);
    if (descriptor < 0) {
      error = errno;
      return nullptr;
    }
    if (endpoint.address.v6) set_option(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    SystemAddress address = to_system(endpoint);
    if (::bind(descriptor, address.get(), address.bytes) != 0) {
      error = errno;
      close(descriptor);
      return nullptr;
    }
    return std::make_unique<SystemListener>(descriptor);
  }

  std::unique_ptr<Socket> connect(const Endpoint& endpoint, int& error) override {
    const int descriptor = open_socket(endpoint);
    if (descriptor < 0) {
      error = errno;
      return nullptr;
    }
    auto made = std::make_unique<SystemSocket>(descriptor);
    SystemAddress address = to_system(endpoint);
    if (::connect(descriptor, address.get(), address.bytes) != 0 && errno != EINPROGRESS) {
      error = errno;
      return nullptr;
    }
    return made;
  }
};

}  // namespace

std::unique_ptr<Socket> adopt_socket(int descriptor) {
  return std::make_unique<SystemSocket>(descriptor);
}

std::shared_ptr<Network> system_network() {
  return std::make_shared<SystemNetwork>();
}

}  // namespace mooncake_mpi::linux_driver
