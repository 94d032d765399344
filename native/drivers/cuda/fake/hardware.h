// The thread that plays the hardware of all devices.
#pragma once

#include "drivers/cuda/fake/driver.h"

namespace mooncake_mpi::cuda_driver::fake {

// Starts it with the first operation of the process. With the state's lock held.
void start_hardware(Driver& driver);

}  // namespace mooncake_mpi::cuda_driver::fake
