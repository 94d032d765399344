#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>

namespace mooncake_mpi::linux_driver {

// What the system says of a process. That it cannot be looked at (no /proc, no descriptor left, no
// permission) says nothing of whether it lives.
struct ProcessStatus {
  enum class Life : std::uint8_t { kUnknown, kRunning, kEnded };
  Life life = Life::kUnknown;
  std::uint64_t start_time = 0;  // clock ticks since boot; 0: unknown
};

ProcessStatus read_process_status(pid_t pid);

// The same from the text of /proc/PID/stat, proc(5).
ProcessStatus parse_process_status(std::string_view text);

// Whether the process `pid` that started at `start_time` (0: unknown) is known to be no more: there
// is none of that number, or a zombie, or one on its way out, or another one.
bool process_has_ended(pid_t pid, std::uint64_t start_time);

}  // namespace mooncake_mpi::linux_driver
