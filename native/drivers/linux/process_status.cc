#include "drivers/linux/process_status.h"

#include <signal.h>

#include <cerrno>
#include <charconv>
#include <string>

#include "drivers/linux/text_file.h"

namespace mooncake_mpi::linux_driver {

using Life = ProcessStatus::Life;

namespace {

constexpr std::uint64_t kExiting = 4;  // PF_EXITING of the kernel's flags

}  // namespace

ProcessStatus parse_process_status(std::string_view text) {
  const std::size_t name_end = text.rfind(')');  // the name may hold spaces and parentheses
  if (name_end == std::string_view::npos || name_end + 2 >= text.size()) return {};
  text.remove_prefix(name_end + 2);
  const char state = text.front();
  // A zombie has ended: its memory is gone and none of its threads runs.
  ProcessStatus status{state == 'Z' || state == 'X' ? Life::kEnded : Life::kRunning, 0};
  for (int field = 4; field <= 22; ++field) {  // proc(5) counts them from 1
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) return status;
    text.remove_prefix(space + 1);
    if (field != 9 && field != 22) continue;
    std::uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    if (field == 22) status.start_time = value;
    // On its way out: its descriptors and its memory go before it is a zombie.
    if (field == 9 && (value & kExiting) != 0) status.life = Life::kEnded;
  }
  return status;
}

ProcessStatus read_process_status(pid_t pid) {
  std::string text;
  if (read_text("/proc/" + std::to_string(pid) + "/stat", text)) return parse_process_status(text);
  if (errno == ESRCH) return {Life::kEnded, 0};
  // Without /proc the number alone can be asked for.
  return {kill(pid, 0) != 0 && errno == ESRCH ? Life::kEnded : Life::kUnknown, 0};
}

bool process_has_ended(pid_t pid, std::uint64_t start_time) {
  const ProcessStatus status = read_process_status(pid);
  return status.life == Life::kEnded ||
         (start_time != 0 && status.start_time != 0 && status.start_time != start_time);
}

}  // namespace mooncake_mpi::linux_driver
