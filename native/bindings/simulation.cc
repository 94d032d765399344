// Addresses of a job that is not there, to measure what one of that size costs its processes. With
// the interpreter's lock (GIL) held.
#include <malloc.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>

#include "bindings/module.h"
#include "transport/shm/shm_transport.h"
#include "transport/tcp/config.h"
#include "transport/verbs/verbs_transport.h"
#include "wire/address.h"
#include "wire/shm_address.h"
#include "wire/tcp.h"
#include "wire/verbs.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

template <class Bytes>
void fill(std::mt19937_64& random, Bytes& bytes) {
  for (std::byte& byte : bytes)
    byte = static_cast<std::byte>(random());
}

// As the lanes of a process of that host would describe it: some of it differs from process to
// process, most of it does not.
wire::Address simulated(int rank, std::uint64_t host, std::mt19937_64& random) {
  wire::Address address;
  fill(random, address.uid);
  fill(random, address.job_secret);
  std::mt19937_64 of_host(host);
  fill(of_host, address.host);
  address.pid = 1000 + static_cast<std::int32_t>(random() % 100'000);
  address.start_time = 1'000'000 + random() % 1'000;
  address.context = static_cast<std::uint32_t>(rank % 7);
  const wire::ShmAddress segment{.descriptor = 5,
                                 .segment_bytes = 1'358'966'784,
                                 .probe_address = 0x7f0000000000 + (random() >> 24 << 12),
                                 .probe_magic = random()};
  address.add(shm::ShmTransport::kLane, std::as_bytes(std::span(&segment, 1)));
  wire::Rails rails{};
  rails[0].gid[0] = std::byte{0xfe};
  rails[0].gid[1] = std::byte{0x80};
  for (std::size_t i = 8; i < 16; ++i)
    rails[0].gid[i] = static_cast<std::byte>(of_host());
  rails[0].queue_pair = 1 + static_cast<std::uint32_t>(random() % 0xffffff);
  rails[0].queue_key = static_cast<std::uint32_t>(random());
  rails[0].lid = static_cast<std::uint16_t>(1 + host);
  rails[0].mtu_bytes = 4096;
  // An address of IPv4 and one of IPv6, the same of all processes of a host but for the port.
  wire::TcpEndpoint endpoints[2]{};
  endpoints[1].family = 6;
  for (wire::TcpEndpoint& endpoint : endpoints) {
    for (std::size_t i = 0; i < (endpoint.family == 4 ? 4u : 16u); ++i)
      endpoint.address[i] = static_cast<std::byte>(of_host());
    endpoint.port = static_cast<std::uint16_t>(32768 + rank % 28'000);
  }
  address.add(tcp::kLane, std::as_bytes(std::span(endpoints)));
  address.add(verbs::VerbsTransport::kLane, std::as_bytes(std::span(rails)));
  return address;
}

// The addresses of all ranks of a job whose rank 0 this process is, one behind the other, and how
// long each of them is.
std::tuple<nb::bytearray, std::size_t> simulated_entries(const nb::bytes& own, int members,
                                                         int per_host) {
  // Of jobs of two sizes no process is the same, nor any host.
  const auto job = static_cast<std::uint64_t>(members) << 32;
  std::mt19937_64 random(job);
  const auto* bytes = reinterpret_cast<const std::byte*>(own.c_str());
  std::size_t longest = own.size();
  longest = std::max(longest, wire::encode(simulated(1, job, random)).size());
  std::string entries(longest * static_cast<std::size_t>(members), '\0');
  std::memcpy(entries.data(), bytes, own.size());
  for (int rank = 1; rank < members; ++rank) {
    const auto entry =
        wire::encode(simulated(rank, job + static_cast<std::uint64_t>(rank / per_host), random));
    std::memcpy(entries.data() + static_cast<std::size_t>(rank) * longest, entry.data(),
                entry.size());
  }
  return {nb::bytearray(entries.data(), entries.size()), longest};
}

}  // namespace

void define_simulation(nb::module_& m) {
  m.def("simulated_entries", &simulated_entries, "own"_a, "members"_a, "per_host"_a,
        "Addresses of a job that is not there, all of other hosts but the first, and the bytes of "
        "each.");
  m.def(
      "allocated_bytes",
      [] {
        const struct mallinfo2 info = mallinfo2();
        return info.uordblks + info.hblkhd;
      },
      "What is allocated and not freed in this process, of the C library's memory.");
}

}  // namespace mooncake_mpi::bindings
