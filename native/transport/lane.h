// How a lane is opened: what the list of lanes knows of one. Before the engine has a lock.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "transport/copy/copy_mover.h"
#include "transport/transport.h"

namespace mooncake_mpi {

// The package's settings by name; numbers were checked by the package, switches are 0 or 1.
class Settings {
 public:
  using Value = std::variant<std::int64_t, std::string>;

  void set(const std::string& name, Value value) { values_[name] = std::move(value); }
  std::optional<std::int64_t> number(const std::string& name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) return std::nullopt;
    const auto* value = std::get_if<std::int64_t>(&found->second);
    return value != nullptr ? std::optional(*value) : std::nullopt;
  }
  std::string text(const std::string& name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) return {};
    const auto* value = std::get_if<std::string>(&found->second);
    return value != nullptr ? *value : std::string();
  }
  // Names with commas between them; blanks do not count.
  std::vector<std::string> list(const std::string& name) const {
    std::vector<std::string> parts;
    const std::string names = text(name);
    for (std::size_t at = 0; at < names.size();) {
      const std::size_t comma = std::min(names.find(',', at), names.size());
      std::string part = names.substr(at, comma - at);
      std::erase(part, ' ');
      if (!part.empty()) parts.push_back(std::move(part));
      at = comma + 1;
    }
    return parts;
  }
  bool flag(const std::string& name) const { return number(name).value_or(1) != 0; }
  template <class Number>
  void read(const std::string& name, Number& into) const {
    if (const auto value = number(name)) into = static_cast<Number>(*value);
  }

 private:
  std::map<std::string, Value> values_;
};

struct LaneContext {
  const wire::Address& self;
  const Settings& settings;
  const CopyConfig& copy;  // for movers that copy; its pool is that of memory made for messages
  MoverCounters& counters;
};

struct Lane {
  std::string name;
  wire::LaneId id = 0;
  bool always = false;  // whatever lanes were chosen
  // A process goes on without it where it cannot be opened, and says why when it would be needed.
  bool optional = false;
  std::function<Result<std::unique_ptr<Transport>>(const LaneContext&)> open;
  bool only_moves = false;  // as Transport says it, of one that is not opened
};

}  // namespace mooncake_mpi
