#include "drivers/verbs/verbs.h"

namespace mooncake_mpi::verbs_driver {

std::string_view status_name(Status status) noexcept {
  switch (status) {
    case Status::kSuccess:
      return "success";
    case Status::kFlushed:
      return "flushed";
    case Status::kRetryExceeded:
      return "transport retry counter exceeded";
    case Status::kReceiverNotReady:
      return "receiver not ready";
    case Status::kRemoteAccess:
      return "remote access error";
    case Status::kRemoteOperation:
      return "remote operation error";
    case Status::kLocalProtection:
      return "local protection error";
    case Status::kLocalOperation:
      return "local queue pair operation error";
    case Status::kOther:
      break;
  }
  return "unknown completion error";
}

}  // namespace mooncake_mpi::verbs_driver
