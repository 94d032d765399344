// Starting the fake driver, and its devices: those of CUDA_VISIBLE_DEVICES, with the same UUIDs in
// every process of the node.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "drivers/cuda/fake/driver.h"

namespace mooncake_mpi::cuda_driver::fake {
namespace {

long number_in(const char* variable, long otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr || *text == '\0' ? otherwise : std::strtol(text, nullptr, 10);
}

std::vector<std::string> items_of(const char* text) {
  std::vector<std::string> items;
  std::string item;
  for (const char* c = text; c != nullptr; ++c) {
    if (*c != ',' && *c != '\0') {
      item += *c;
      continue;
    }
    items.push_back(std::exchange(item, {}));
    if (*c == '\0') break;
  }
  return items;
}

CUuuid uuid_of(int physical) {
  CUuuid uuid{};
  std::memcpy(uuid.bytes, "fake", 4);
  uuid.bytes[3] = static_cast<char>(physical);
  std::memcpy(uuid.bytes + 4, "mooncake_mpi", 12);
  return uuid;
}

std::string text_of(const CUuuid& uuid) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    char digits[4];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(uuid.bytes[i]));
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits;
  }
  return text;
}

// One entry of CUDA_VISIBLE_DEVICES: an index, or how a UUID starts; -1: names no device.
int physical_of(const std::string& item, int devices) {
  if (item.starts_with("GPU-")) {
    int found = -1;
    for (int i = 0; i < devices; ++i) {
      if (!text_of(uuid_of(i)).starts_with(item)) continue;
      if (found >= 0) return -1;
      found = i;
    }
    return found;
  }
  char* end = nullptr;
  const long index = std::strtol(item.c_str(), &end, 10);
  if (item.empty() || *end != '\0' || index < 0 || index >= devices) return -1;
  return static_cast<int>(index);
}

// The real one sees the devices before the first entry that names none, and none when one is named
// twice.
std::vector<int> visible_devices(int devices) {
  std::vector<int> visible;
  const char* wanted = std::getenv("CUDA_VISIBLE_DEVICES");
  if (wanted == nullptr) {
    for (int i = 0; i < devices; ++i)
      visible.push_back(i);
    return visible;
  }
  for (const std::string& item : items_of(wanted)) {
    const int physical = physical_of(item, devices);
    if (physical < 0) break;
    if (std::ranges::find(visible, physical) != visible.end()) return {};
    visible.push_back(physical);
  }
  return visible;
}

void read_faults() {
  const Lock lock(driver().state);
  for (const std::string& item : items_of(std::getenv("MOONCAKE_MPI_FAKE_CUDA_FAIL"))) {
    char name[64] = {};
    int error = 0;
    int skip = 0;
    int times = 1;
    if (std::sscanf(item.c_str(), "%63[^:]:%d:%d:%d", name, &error, &skip, &times) < 2) continue;
    const std::size_t number = function_number(name);
    if (number == kFunctions) {
      std::fprintf(stderr, "MOONCAKE_MPI_FAKE_CUDA_FAIL: no function is called %s\n", name);
      std::abort();
    }
    Fault& fault = driver().faults[number];
    fault.error = static_cast<CUresult>(error);
    fault.skip = skip;
    fault.times = times;
  }
}

void initialise(Driver& driver) {
  driver.initialised = true;
  driver.no_peer = number_in("MOONCAKE_MPI_FAKE_CUDA_NO_PEER", 0) != 0;
  driver.operation_us = static_cast<unsigned>(
      number_in("MOONCAKE_MPI_FAKE_CUDA_OPERATION_US", static_cast<long>(driver.operation_us)));
  const char* loading = std::getenv("CUDA_MODULE_LOADING");
  driver.eager = loading != nullptr && std::strcmp(loading, "EAGER") == 0;
  const long channels = std::clamp(number_in("CUDA_DEVICE_MAX_CONNECTIONS", 8), 1L, 32L);
  const int devices = static_cast<int>(number_in("MOONCAKE_MPI_FAKE_CUDA_DEVICES", 2));
  for (const int physical : visible_devices(devices)) {
    auto& device = driver.devices.emplace_back(std::make_unique<Device>());
    device->ordinal = static_cast<int>(driver.devices.size()) - 1;
    device->physical = physical;
    device->uuid = uuid_of(physical);
    device->context = driver.new_handle<CUcontext>();
    device->channels.resize(static_cast<std::size_t>(channels) + 1);
  }
}

}  // namespace

CUresult cuInit(unsigned flags) {
  static const bool faults_read = (read_faults(), true);
  static_cast<void>(faults_read);
  Call call(Function::cuInit, Needs::kNothing);
  if (call.failed()) return call.error();
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (!call.driver().initialised) initialise(call.driver());
  return call.driver().devices.empty() ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int* version) {
  Call call(Function::cuDriverGetVersion, Needs::kNothing);
  if (call.failed()) return call.error();
  *version = 12040;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
  Call call(Function::cuDeviceGetCount, Needs::kDriver);
  if (call.failed()) return call.error();
  *count = static_cast<int>(call.driver().devices.size());
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  Call call(Function::cuDeviceGet, Needs::kDriver);
  if (call.failed()) return call.error();
  if (call.driver().device_at(ordinal) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  Call call(Function::cuDeviceGetName, Needs::kDriver);
  if (call.failed()) return call.error();
  const Device* found = call.driver().device_at(device);
  if (found == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (length <= 0) return CUDA_ERROR_INVALID_VALUE;
  std::snprintf(name, static_cast<std::size_t>(length), "Fake GPU %d", found->physical);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
  Call call(Function::cuDeviceGetUuid, Needs::kDriver);
  if (call.failed()) return call.error();
  const Device* found = call.driver().device_at(device);
  if (found == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *uuid = found->uuid;
  return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  Call call(Function::cuDeviceCanAccessPeer, Needs::kDriver);
  if (call.failed()) return call.error();
  if (call.driver().device_at(device) == nullptr || call.driver().device_at(peer) == nullptr) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *can = device != peer && !call.driver().no_peer ? 1 : 0;
  return CUDA_SUCCESS;
}

}  // namespace mooncake_mpi::cuda_driver::fake
