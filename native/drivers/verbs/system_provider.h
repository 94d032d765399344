#pragma once

#include <memory>

#include "drivers/verbs/verbs.h"

namespace mooncake_mpi::verbs_driver {

// libibverbs.so.1, loaded when this is called; the failure says why there is none.
Result<std::unique_ptr<Provider>> open_system_provider();

}  // namespace mooncake_mpi::verbs_driver
