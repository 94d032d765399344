// Takes the place of system_provider.cc in a build without <infiniband/verbs.h>.
#include "drivers/verbs/system_provider.h"

namespace mooncake_mpi::verbs_driver {

Result<std::unique_ptr<Provider>> open_system_provider() {
  return Failure{Error::kUnreachable, "built without <infiniband/verbs.h>"};
}

}  // namespace mooncake_mpi::verbs_driver
