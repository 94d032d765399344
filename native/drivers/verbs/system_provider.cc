#include "drivers/verbs/system_provider.h"

#include <cerrno>
#include <string>
#include <utility>

#include "drivers/verbs/system_device.h"

namespace mooncake_mpi::verbs_driver {
namespace {

class SystemProvider final : public Provider {
 public:
  explicit SystemProvider(const Library& library) : library_(library) {}

  Result<std::vector<PortInfo>> ports() override {
    std::vector<PortInfo> found;
    Result<bool> listed = for_each_device([&](ibv_device* device) {
      auto opened = SystemDevice::open(library_, device);
      if (!opened) {
        PortInfo closed;
        closed.device = library_.get_device_name(device);
        closed.state = opened.failure().message;
        found.push_back(std::move(closed));
        return true;
      }
      for (std::uint8_t port = 1; port <= opened.value()->port_count(); ++port) {
        Result<PortInfo> info = opened.value()->query_port(port);
        if (info) found.push_back(std::move(info).value());
      }
      return true;
    });
    if (!listed) return listed.failure();
    return found;
  }

  Result<std::unique_ptr<Device>> open(const std::string& name) override {
    std::optional<Result<std::unique_ptr<SystemDevice>>> opened;
    Result<bool> listed = for_each_device([&](ibv_device* device) {
      if (name != library_.get_device_name(device)) return true;
      opened.emplace(SystemDevice::open(library_, device));
      return false;
    });
    if (!listed) return listed.failure();
    if (!opened) return Failure{Error::kUnreachable, "no RDMA device is called " + name};
    if (!*opened) return opened->failure();
    return std::unique_ptr<Device>(std::move(*opened).value());
  }

 private:
  // Until `visit` returns false.
  template <class Visit>
  Result<bool> for_each_device(Visit&& visit) {
    int count = 0;
    ibv_device** list = library_.get_device_list(&count);
    // Without the kernel's part there is no list; that, too, means that there is no device.
    if (list == nullptr && errno != ENOSYS && errno != ENOENT && errno != 0) {
      return system_failure("ibv_get_device_list", errno);
    }
    for (int i = 0; i < count && visit(list[i]); ++i) {
    }
    if (list != nullptr) library_.free_device_list(list);
    return true;
  }

  const Library& library_;
};

}  // namespace

Result<std::unique_ptr<Provider>> open_system_provider() {
  Result<const Library*> library = Library::load();
  if (!library) return library.failure();
  return std::unique_ptr<Provider>(std::make_unique<SystemProvider>(*library.value()));
}

}  // namespace mooncake_mpi::verbs_driver
