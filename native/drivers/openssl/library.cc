#include "drivers/openssl/library.h"

#include <dlfcn.h>

#include <type_traits>

namespace mooncake_mpi::openssl_driver {

Result<Library> Library::load(const std::string& file) {
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = dlerror();
    return Failure{Error::kOther,
                   "no OpenSSL 3: " + std::string(reason != nullptr ? reason : file)};
  }
  Library library;
  std::string missing;
  const auto take = [&](const char* name, auto& function) {
    void* found = dlsym(handle, name);
    if (found == nullptr && missing.empty()) missing = name;
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(found);
  };
#define MOONCAKE_MPI_OPENSSL_TAKE(name, ...) take(#name, library.name);
  MOONCAKE_MPI_OPENSSL_FUNCTIONS(MOONCAKE_MPI_OPENSSL_TAKE)
#undef MOONCAKE_MPI_OPENSSL_TAKE
  if (!missing.empty()) {
    dlclose(handle);
    return Failure{Error::kOther, "no OpenSSL 3: " + file + " has no " + missing};
  }
  // It registers what it does at the end of the process, and does not like to be unloaded.
  if (library.OPENSSL_init_ssl(0, nullptr) != 1) {
    return Failure{Error::kOther, "OpenSSL cannot be used: " + library.take_error()};
  }
  return library;
}

std::string Library::take_error() const {
  const char* words = ERR_reason_error_string(ERR_get_error());
  ERR_clear_error();
  return words != nullptr ? words : "no reason given";
}

}  // namespace mooncake_mpi::openssl_driver
