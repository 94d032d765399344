#include "drivers/linux/memory_places.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "drivers/linux/text_file.h"

namespace mooncake_mpi::linux_driver {
namespace {

std::vector<int> numbers_in(const std::string& line) {
  std::vector<int> numbers;
  const char* at = line.data();
  const char* end = at + line.size();
  while (at != end) {
    int number = 0;
    const auto [after, error] = std::from_chars(at, end, number);
    if (error == std::errc{}) numbers.push_back(number);
    at = error == std::errc{} ? after : at + 1;
  }
  return numbers;
}

class SystemMemoryPlaces final : public MemoryPlaces {
 public:
  // A row of distances for each node; nodes that are not there leave it empty.
  SystemMemoryPlaces() {
    constexpr int kMaxNodes = 64;
    std::vector<int> present;
    for (int node = 0; node < kMaxNodes; ++node) {
      const std::string line =
          read_line("/sys/devices/system/node/node" + std::to_string(node) + "/distance");
      const std::vector<int> row = numbers_in(line);
      if (row.empty()) continue;
      present.push_back(node);
      rows_.push_back(row);
    }
    // The columns are the nodes that are present, too.
    index_.assign(kMaxNodes, -1);
    for (std::size_t i = 0; i < present.size(); ++i)
      index_[static_cast<std::size_t>(present[i])] = static_cast<int>(i);
  }

  bool several() const noexcept override { return rows_.size() > 1; }

  int node_of(const void* address) const noexcept override {
    void* page = const_cast<void*>(address);
    int node = -1;
    // Without target nodes move_pages(2) moves nothing and tells where the page is.
    if (syscall(SYS_move_pages, 0, 1, &page, nullptr, &node, 0) != 0) return -1;
    return node < 0 ? -1 : node;
  }

  int own_node() const noexcept override {
    unsigned core = 0;
    unsigned node = 0;
    return syscall(SYS_getcpu, &core, &node, nullptr) == 0 ? static_cast<int>(node) : -1;
  }

  int distance(int from, int to) const noexcept override {
    const int row = index(from);
    const int column = index(to);
    if (row < 0 || column < 0) return kSameNode;
    const auto& distances = rows_[static_cast<std::size_t>(row)];
    const auto at = static_cast<std::size_t>(column);
    return at < distances.size() ? distances[at] : kSameNode;
  }

 private:
  int index(int node) const noexcept {
    const auto at = static_cast<std::size_t>(node);
    return node >= 0 && at < index_.size() ? index_[at] : -1;
  }

  std::vector<std::vector<int>> rows_;
  std::vector<int> index_;  // of a node in rows_
};

}  // namespace

std::unique_ptr<MemoryPlaces> system_memory_places() {
  return std::make_unique<SystemMemoryPlaces>();
}

}  // namespace mooncake_mpi::linux_driver
