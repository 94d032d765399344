#include "bindings/waiting.h"

#include <unistd.h>

#include <cstdio>
#include <string>

namespace mooncake_mpi::bindings {

LongWait::~LongWait() {
  if (id_ != 0) runtime().engine->end_wait(id_);
}

void LongWait::begin(const WaitRecord& record) {
  since_ns_ = record.since_ns;
  id_ = runtime().engine->begin_wait(record);
}

bool LongWait::in_time() {
  runtime().engine->fail_undeliverable();
  const std::uint64_t limit = runtime().engine->config().timeout_ns;
  if (limit == 0) return true;
  const std::uint64_t waited = now_ns() - since_ns_;
  return waited < limit || raise_timeout(waited);
}

bool raise_timeout(std::uint64_t waited_ns) {
  const std::string text = runtime().engine->explain();
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
  char reason[64];
  std::snprintf(reason, sizeof reason, "timeout: nothing came in %.1f s (MOONCAKE_MPI_TIMEOUT_S)\n",
                static_cast<double>(waited_ns) / 1e9);
  raise_error("ERR_PENDING", (reason + text).c_str());
  return false;
}

}  // namespace mooncake_mpi::bindings
