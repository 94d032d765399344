// A device of libibverbs: its ports, what is made from it, and its events. Takes no lock:
// libibverbs is thread-safe, and nothing here changes once the device is open.
#include "drivers/verbs/system_device.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "drivers/linux/text_file.h"

namespace mooncake_mpi::verbs_driver {
namespace {

using linux_driver::read_line;

std::string sysfs(const std::string& device) {
  return "/sys/class/infiniband/" + device;
}

int numa_node(const std::string& device) {
  const std::string text = read_line(sysfs(device) + "/device/numa_node");
  return text.empty() ? -1 : std::atoi(text.c_str());
}

// libibverbs tells the type of a GID in newer versions only; the kernel tells it in all.
GidType gid_type(const std::string& device, std::uint8_t port, std::uint32_t index) {
  const std::string text = read_line(sysfs(device) + "/ports/" + std::to_string(port) +
                                     "/gid_attrs/types/" + std::to_string(index));
  if (text.find("v2") != std::string::npos) return GidType::kRoceV2;
  return text.find("RoCE") != std::string::npos ? GidType::kRoceV1 : GidType::kInfiniBand;
}

const char* state_name(ibv_port_state state) {
  switch (state) {
    case IBV_PORT_DOWN:
      return "down";
    case IBV_PORT_INIT:
      return "initialising (is a subnet manager running?)";
    case IBV_PORT_ARMED:
      return "armed";
    case IBV_PORT_ACTIVE:
      return "active";
    case IBV_PORT_ACTIVE_DEFER:
      return "active, deferred";
    default:
      return "unknown";
  }
}

int unblock(int descriptor) {
  const int flags = fcntl(descriptor, F_GETFL);
  return fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
}

}  // namespace

Result<std::unique_ptr<SystemDevice>> SystemDevice::open(const Library& library,
                                                         ibv_device* device) {
  const std::string name = library.get_device_name(device);
  ibv_context* context = library.open_device(device);
  if (context == nullptr) {
    Failure failure = system_failure("ibv_open_device", errno);
    if (errno == EACCES || errno == EPERM) failure.message += " (/dev/infiniband/uverbs*)";
    return failure;
  }
  std::unique_ptr<SystemDevice> made(new SystemDevice(library, context));
  made->name_ = name;
  ibv_device_attr attributes{};
  if (const int error = library.query_device(context, &attributes); error != 0) {
    return system_failure("ibv_query_device", error);
  }
  made->ports_ = attributes.phys_port_cnt;
  made->limits_ = {.send_depth = static_cast<std::uint32_t>(attributes.max_qp_wr),
                   .shared_depth = static_cast<std::uint32_t>(attributes.max_srq_wr),
                   .completions = static_cast<std::uint32_t>(attributes.max_cqe),
                   .read_depth = static_cast<std::uint32_t>(
                       std::min(attributes.max_qp_rd_atom, attributes.max_qp_init_rd_atom))};
  made->domain_ = library.alloc_pd(context);
  if (made->domain_ == nullptr) return system_failure("ibv_alloc_pd", errno);
  made->channel_ = library.create_comp_channel(context);
  if (made->channel_ == nullptr) return system_failure("ibv_create_comp_channel", errno);
  if (unblock(made->channel_->fd) != 0 || unblock(context->async_fd) != 0) {
    return system_failure("fcntl", errno);
  }
  return made;
}

SystemDevice::~SystemDevice() {
  if (channel_ != nullptr) library_.destroy_comp_channel(channel_);
  if (domain_ != nullptr) library_.dealloc_pd(domain_);
  library_.close_device(context_);
}

Result<PortInfo> SystemDevice::query_port(std::uint8_t port) {
  ibv_port_attr attributes{};
  if (const int error = library_.query_port(context_, port, &attributes); error != 0) {
    return system_failure("ibv_query_port", error);
  }
  PortInfo info;
  info.device = name_;
  info.port = port;
  info.active = attributes.state == IBV_PORT_ACTIVE;
  info.state = state_name(attributes.state);
  info.link = attributes.link_layer == IBV_LINK_LAYER_ETHERNET ? LinkLayer::kEthernet
                                                               : LinkLayer::kInfiniBand;
  info.mtu_bytes = 128u << attributes.active_mtu;
  info.lid = attributes.lid;
  info.numa_node = numa_node(name_);
  for (int index = 0; index < attributes.gid_tbl_len; ++index) {
    ibv_gid gid{};
    if (library_.query_gid(context_, port, index, &gid) != 0) continue;
    GidEntry entry;
    std::memcpy(entry.gid.data(), gid.raw, sizeof gid.raw);
    if (entry.gid == Gid{}) continue;
    entry.index = static_cast<std::uint32_t>(index);
    entry.type = gid_type(name_, port, entry.index);
    info.gids.push_back(entry);
  }
  return info;
}

Result<std::unique_ptr<MemoryRegion>> SystemDevice::register_memory(void* address,
                                                                    std::size_t bytes,
                                                                    unsigned access) {
  int flags = 0;
  if ((access & kLocalWrite) != 0) flags |= IBV_ACCESS_LOCAL_WRITE;
  if ((access & kRemoteRead) != 0) flags |= IBV_ACCESS_REMOTE_READ;
  if ((access & kRemoteWrite) != 0) flags |= IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_LOCAL_WRITE;
  ibv_mr* region = library_.reg_mr(domain_, address, bytes, flags);
  if (region == nullptr) return system_failure("ibv_reg_mr", errno);
  return std::unique_ptr<MemoryRegion>(std::make_unique<SystemMemoryRegion>(library_, region));
}

Result<std::unique_ptr<CompletionQueue>> SystemDevice::create_completion_queue(
    std::uint32_t entries) {
  ibv_cq* queue = library_.create_cq(context_, static_cast<int>(entries), nullptr, channel_, 0);
  if (queue == nullptr) return system_failure("ibv_create_cq", errno);
  return std::unique_ptr<CompletionQueue>(std::make_unique<SystemCompletionQueue>(library_, queue));
}

Result<std::unique_ptr<SharedReceiveQueue>> SystemDevice::create_shared_receive_queue(
    std::uint32_t entries) {
  ibv_srq_init_attr attributes{};
  attributes.attr.max_wr = entries;
  attributes.attr.max_sge = 1;
  ibv_srq* queue = library_.create_srq(domain_, &attributes);
  if (queue == nullptr) return system_failure("ibv_create_srq", errno);
  return std::unique_ptr<SharedReceiveQueue>(
      std::make_unique<SystemSharedReceiveQueue>(library_, queue));
}

Result<std::unique_ptr<AddressHandle>> SystemDevice::create_address_handle(const Route& route) {
  ibv_ah_attr vector = address_vector(route);
  ibv_ah* handle = library_.create_ah(domain_, &vector);
  if (handle == nullptr) return system_failure("ibv_create_ah", errno);
  return std::unique_ptr<AddressHandle>(std::make_unique<SystemAddressHandle>(library_, handle));
}

CompletionQueue* SystemDevice::take_completion_event() noexcept {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  if (library_.get_cq_event(channel_, &queue, &context) != 0) return nullptr;
  library_.ack_cq_events(queue, 1);
  return static_cast<CompletionQueue*>(context);
}

std::optional<PortEvent> SystemDevice::take_event() noexcept {
  ibv_async_event event{};
  if (library_.get_async_event(context_, &event) != 0) return std::nullopt;
  PortEvent found;
  switch (event.event_type) {
    case IBV_EVENT_PORT_ERR:
      found = {DeviceEvent::kPortDown, static_cast<std::uint8_t>(event.element.port_num)};
      break;
    case IBV_EVENT_PORT_ACTIVE:
      found = {DeviceEvent::kPortActive, static_cast<std::uint8_t>(event.element.port_num)};
      break;
    case IBV_EVENT_DEVICE_FATAL:
      found = {DeviceEvent::kDeviceFatal, 0};
      break;
    default:
      break;
  }
  library_.ack_async_event(&event);
  return found;
}

}  // namespace mooncake_mpi::verbs_driver
