#include "drivers/cuda/library.h"

#include <dlfcn.h>

#include <mutex>
#include <optional>

namespace mooncake_mpi::cuda_driver {
namespace {

// What the functions above are asked for as: the newest form of each that CUDA 12.0 has. Drivers
// older than that have no IPC between containers' processes worth having, and no
// cuGetProcAddress_v2.
constexpr int kVersion = 12000;
constexpr int kLaterVersion = 13000;

using GetProcAddress = CUresult (*)(const char*, void**, int, std::uint64_t, int*);

Failure unreachable(const std::string& why) {
  return Failure{Error::kUnreachable, why};
}

Result<Library> open(const std::string& file) {
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = dlerror();
    return unreachable("no CUDA driver: " + std::string(reason != nullptr ? reason : file));
  }
  const auto find = reinterpret_cast<GetProcAddress>(dlsym(handle, "cuGetProcAddress_v2"));
  if (find == nullptr) {
    dlclose(handle);
    return unreachable("the CUDA driver is older than 12.0");
  }
  Library library;
  std::string missing;
  const auto take = [&](const char* name, auto& function) {
    void* found = nullptr;
    int status = 0;
    const CUresult error = find(name, &found, kVersion, 0, &status);
    if ((error != CUDA_SUCCESS || found == nullptr) && missing.empty()) missing = name;
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(found);
  };
#define MOONCAKE_MPI_CUDA_TAKE(name, ...) take(#name, library.name);
  MOONCAKE_MPI_CUDA_FUNCTIONS(MOONCAKE_MPI_CUDA_TAKE)
#undef MOONCAKE_MPI_CUDA_TAKE
  const auto take_later = [&](const char* name, auto& function) {
    void* found = nullptr;
    int status = 0;
    if (find(name, &found, kLaterVersion, 0, &status) != CUDA_SUCCESS) found = nullptr;
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(found);
  };
#define MOONCAKE_MPI_CUDA_TAKE(name, ...) take_later(#name, library.name);
  MOONCAKE_MPI_CUDA_LATER_FUNCTIONS(MOONCAKE_MPI_CUDA_TAKE)
#undef MOONCAKE_MPI_CUDA_TAKE
  if (!missing.empty()) {
    dlclose(handle);
    return unreachable("the CUDA driver has no " + missing);
  }
  // From here on the library stays: it does not like to be unloaded.
  if (const CUresult error = library.cuInit(0); error != CUDA_SUCCESS) {
    return unreachable("the CUDA driver cannot be used: " + library.words(error));
  }
  int count = 0;
  if (library.cuDeviceGetCount(&count) != CUDA_SUCCESS || count == 0) {
    return unreachable("the CUDA driver shows no device");
  }
  return library;
}

}  // namespace

Result<const Library*> Library::load(const std::string& file) {
  static std::mutex mutex;
  static std::optional<Result<Library>> library;
  std::scoped_lock lock(mutex);
  if (!library) library.emplace(open(file));
  if (!*library) return library->failure();
  return static_cast<const Library*>(&library->value());
}

std::string Library::words(CUresult error) const {
  const char* text = nullptr;
  const char* name = nullptr;
  if (cuGetErrorString(error, &text) != CUDA_SUCCESS || text == nullptr) text = "unknown error";
  if (cuGetErrorName(error, &name) != CUDA_SUCCESS || name == nullptr) name = "CUDA error";
  return std::string(text) + " (" + name + ")";
}

}  // namespace mooncake_mpi::cuda_driver
