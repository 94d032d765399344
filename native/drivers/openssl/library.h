// libssl as a table of functions, loaded when encryption is asked for.
#pragma once

#include <string>

#include "base/result.h"
#include "drivers/openssl/abi.h"

namespace mooncake_mpi::openssl_driver {

struct Library {
#define MOONCAKE_MPI_OPENSSL_ENTRY(name, gives, ...) gives (*name)(__VA_ARGS__) = nullptr;
  MOONCAKE_MPI_OPENSSL_FUNCTIONS(MOONCAKE_MPI_OPENSSL_ENTRY)
#undef MOONCAKE_MPI_OPENSSL_ENTRY

  // What dlopen takes is `file`; once it is loaded it stays for the life of the process.
  static Result<Library> load(const std::string& file = "libssl.so.3");

  // The first error of this thread since they were cleared; they are cleared again.
  std::string take_error() const;
};

}  // namespace mooncake_mpi::openssl_driver
