// Modules and kernels. Any image is a module and has any function; a launch runs the function of
// the host that was defined under its name. A function is loaded by its first launch, for which the
// real driver waits until no stream does, and holds its lock meanwhile.
#include <cstring>

#include "drivers/cuda/fake/stream_calls.h"

namespace mooncake_mpi::cuda_driver::fake {

struct Kernel {
  fake_cuda_kernel function = nullptr;
  void* user = nullptr;
  std::vector<std::size_t> sizes;
};

struct LoadedFunction {
  std::string name;
  CUmodule module = nullptr;
  bool loaded = false;
};

namespace {

// The parameters of one launch, copied as the driver copies them.
class Parameters {
 public:
  Parameters(const Kernel& kernel, void** given) {
    for (std::size_t i = 0; i < kernel.sizes.size(); ++i) {
      auto copy = std::make_unique<std::byte[]>(kernel.sizes[i]);
      std::memcpy(copy.get(), given[i], kernel.sizes[i]);
      pointers_.push_back(copy.get());
      copies_.push_back(std::move(copy));
    }
  }
  void** get() { return pointers_.data(); }

 private:
  std::vector<std::unique_ptr<std::byte[]>> copies_;
  std::vector<void*> pointers_;
};

Outcome run(Driver& driver, Lock& lock, const Kernel& kernel, const fake_cuda_launch& launch) {
  lock.unlock();
  const int outcome = kernel.function(&launch, kernel.user);
  lock.lock();
  if (outcome == FAKE_CUDA_DONE) return Outcome::kDone;
  if (outcome == FAKE_CUDA_NOT_YET) return Outcome::kNotYet;
  break_down(driver, CUDA_ERROR_LAUNCH_FAILED);
  return Outcome::kFault;
}

}  // namespace

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  [[maybe_unused]] static const bool defined = (define_library_kernels(), true);
  Call call(Function::cuModuleLoadData, Needs::kContext);
  if (call.failed()) return call.error();
  Driver& driver = call.driver();
  if (image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (driver.eager) {
    call.block([&] { return driver.broken != CUDA_SUCCESS || !something_waits(driver); });
  }
  *module = driver.new_handle<CUmodule>();
  driver.modules[*module] = call.device();
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  Call call(Function::cuModuleGetFunction, Needs::kHealthy);
  if (call.failed()) return call.error();
  Driver& driver = call.driver();
  if (!driver.modules.contains(module)) return CUDA_ERROR_INVALID_HANDLE;
  auto made = std::make_shared<LoadedFunction>();
  made->name = name;
  made->module = module;
  made->loaded = driver.eager;
  *function = driver.new_handle<CUfunction>();
  driver.functions[*function] = std::move(made);
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z,
                        unsigned /*shared_bytes*/, CUstream stream, void** parameters,
                        void** /*extra*/) {
  Call call(Function::cuLaunchKernel, Needs::kHealthy);
  if (call.failed()) return call.error();
  Driver& driver = call.driver();
  const auto found = driver.functions.find(function);
  if (found == driver.functions.end() || !driver.modules.contains(found->second->module)) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  const auto defined = driver.kernels.find(found->second->name);
  if (defined == driver.kernels.end()) return CUDA_ERROR_NOT_FOUND;
  const fake_cuda_launch launch = {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, nullptr};
  for (int i = 0; i < 3; ++i) {
    if (launch.grid[i] == 0 || launch.block[i] == 0) return CUDA_ERROR_INVALID_VALUE;
  }
  if (!found->second->loaded) {
    const auto loading = found->second;
    call.block([&] { return driver.broken != CUDA_SUCCESS || !something_waits(driver); });
    if (driver.broken != CUDA_SUCCESS) return driver.broken;
    loading->loaded = true;
  }
  std::shared_ptr<Stream> target;
  if (const CUresult error = stream_of(call, stream, target); error != CUDA_SUCCESS) return error;
  const std::shared_ptr<Kernel> kernel = defined->second;
  auto copies = std::make_shared<Parameters>(*kernel, parameters);
  Operation operation;
  operation.waits_for_memory = true;
  operation.run = [&driver, kernel, copies, launch](Lock& lock) {
    fake_cuda_launch with_parameters = launch;
    with_parameters.parameters = copies->get();
    return run(driver, lock, *kernel, with_parameters);
  };
  submit(driver, target, std::move(operation));
  return CUDA_SUCCESS;
}

}  // namespace mooncake_mpi::cuda_driver::fake

void fake_cuda_define_kernel(const char* name, fake_cuda_kernel function, void* user,
                             const std::size_t* parameter_sizes, unsigned parameters) {
  using namespace mooncake_mpi::cuda_driver::fake;
  auto kernel = std::make_shared<Kernel>();
  kernel->function = function;
  kernel->user = user;
  kernel->sizes.assign(parameter_sizes, parameter_sizes + parameters);
  const Lock lock(driver().state);
  driver().kernels[name] = std::move(kernel);
}
