#include "bindings/posting.h"

#include <vector>

#include "bindings/communicator.h"
#include "bindings/interpreter_lock.h"

namespace mooncake_mpi::bindings {

void post_with_devices(std::span<Posting> postings, bool leave) {
  std::vector<ContextHold> holds;
  holds.reserve(postings.size());
  for (const Posting& posting : postings)
    holds.emplace_back(*posting.context);
  const InterpreterUnlocked unlocked;
  Engine& engine = *runtime().engine;
  leave ? engine.post_and_leave(postings) : engine.post(postings);
}

}  // namespace mooncake_mpi::bindings
