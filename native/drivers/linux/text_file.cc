#include "drivers/linux/text_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace mooncake_mpi::linux_driver {

bool read_text(const std::string& path, std::string& text) {
  text.clear();
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return false;
  char buffer[4096];
  ssize_t got;
  while ((got = read(descriptor, buffer, sizeof buffer)) > 0 || (got < 0 && errno == EINTR)) {
    if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
  }
  const int error = errno;
  close(descriptor);
  errno = error;
  if (got < 0) text.clear();
  return got == 0;
}

std::string read_line(const std::string& path) {
  std::string text;
  read_text(path, text);
  return text.substr(0, text.find('\n'));
}

}  // namespace mooncake_mpi::linux_driver
