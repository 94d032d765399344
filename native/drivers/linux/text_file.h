#pragma once

#include <string>

namespace mooncake_mpi::linux_driver {

// The whole of a small file, such as those of /proc and /sys. False, with errno, when it cannot be
// read; `text` is empty then.
bool read_text(const std::string& path, std::string& text);

// Its first line without the line's end; empty when it cannot be read.
std::string read_line(const std::string& path);

}  // namespace mooncake_mpi::linux_driver
