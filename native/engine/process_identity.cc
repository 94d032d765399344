#include "engine/process_identity.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "drivers/linux/process_status.h"
#include "drivers/linux/random.h"
#include "drivers/linux/text_file.h"

namespace mooncake_mpi {
namespace {

std::uint64_t inode(const char* path) {
  struct stat status {};
  return stat(path, &status) == 0 ? status.st_ino : 0;
}

// FNV-1a with two starting points: an identity, not a defence.
std::uint64_t hash(const std::string& text, std::uint64_t start) {
  for (char c : text)
    start = (start ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return start;
}

// Processes share a host when they share a kernel's boot and the namespace in which a pid means
// the same process.
std::string host_identity() {
  if (const char* forced = std::getenv("MOONCAKE_MPI_HOST_ID"); forced != nullptr && *forced != 0) {
    return std::string("forced:") + forced;
  }
  return linux_driver::read_line("/proc/sys/kernel/random/boot_id") + "/" +
         std::to_string(inode("/proc/self/ns/pid"));
}

std::uint64_t start_time() {
  return linux_driver::read_process_status(getpid()).start_time;
}

}  // namespace

wire::Address identify_process() {
  wire::Address address;
  if (!linux_driver::fill_random(address.uid)) {
    const std::uint64_t words[2] = {static_cast<std::uint64_t>(getpid()), start_time()};
    std::memcpy(address.uid.data(), words, sizeof words);
  }
  if (!linux_driver::fill_random(address.job_secret)) {
    address.job_secret = {};  // lanes over a network do without this process
  }
  const std::string host = host_identity();
  const std::uint64_t words[2] = {hash(host, 0xcbf29ce484222325u), hash(host, 0x9e3779b97f4a7c15u)};
  std::memcpy(address.host.data(), words, sizeof words);
  address.pid = getpid();
  address.start_time = start_time();
  return address;
}

}  // namespace mooncake_mpi
