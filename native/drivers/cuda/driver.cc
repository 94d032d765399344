#include "drivers/cuda/driver.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace mooncake_mpi::cuda_driver {
namespace {

// The program's stream as the driver takes it. Zero, CUDA's default stream, and its other numbers
// mean the same to both.
CUstream handle_of(StreamHandle stream) noexcept {
  return reinterpret_cast<CUstream>(stream);
}

DeviceAddress address_of(const void* pinned) noexcept {
  return reinterpret_cast<DeviceAddress>(pinned);  // unified addressing: the same for the device
}

}  // namespace

// The thread's own context comes back at the end. None of our calls is part of a capture, of this
// thread or another one, and so none may end it: in its own mode a thread whose program captures
// must not as much as ask an idle stream.
class Driver::Use {
 public:
  Use(const Library& cuda, CUcontext context) noexcept : cuda_(cuda) {
    if (cuda_.cuThreadExchangeStreamCaptureMode(&mode_) != CUDA_SUCCESS) changed_ = false;
    CUcontext current = nullptr;
    if (cuda_.cuCtxGetCurrent(&current) == CUDA_SUCCESS && current == context) return;
    error_ = cuda.cuCtxPushCurrent(context);
    pushed_ = error_ == CUDA_SUCCESS;
  }
  ~Use() {
    CUcontext popped = nullptr;
    if (pushed_) cuda_.cuCtxPopCurrent(&popped);
    if (changed_) cuda_.cuThreadExchangeStreamCaptureMode(&mode_);
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  CUresult error() const noexcept { return error_; }

 private:
  const Library& cuda_;
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
  bool changed_ = true;
  bool pushed_ = false;
  CUresult error_ = CUDA_SUCCESS;
};

Result<Driver*> Driver::instance(const std::string& file) {
  static std::mutex mutex;
  static Driver* driver = nullptr;  // outlives every thread that may use it
  std::scoped_lock lock(mutex);
  if (driver != nullptr) return driver;
  auto library = Library::load(file);
  if (!library) return library.failure();
  const Library& cuda = *library.value();
  int count = 0;
  if (const CUresult error = cuda.cuDeviceGetCount(&count); error != CUDA_SUCCESS) {
    return Failure{Error::kUnreachable, "CUDA devices: " + cuda.words(error)};
  }
  auto made = std::unique_ptr<Driver>(new Driver(cuda));
  made->contexts_.resize(static_cast<std::size_t>(count));
  driver = made.release();
  return driver;
}

Failure Driver::failure(const char* what, CUresult error) const {
  const Error kind = error == CUDA_ERROR_OUT_OF_MEMORY ? Error::kNoMemory : Error::kBuffer;
  return {kind, std::string(what) + ": " + cuda_.words(error)};
}

// The context that CUDA's runtime, CuPy, Numba and torch use. Where a program has memory there is
// one, and none is made that the program does not have.
Result<CUcontext> Driver::context(int device) {
  std::scoped_lock lock(mutex_);
  if (device < 0 || device >= devices()) {
    return Failure{Error::kBuffer, "no CUDA device " + std::to_string(device)};
  }
  CUcontext& context = contexts_[static_cast<std::size_t>(device)];
  if (context == nullptr) {
    CUdevice handle = 0;
    CUresult error = cuda_.cuDeviceGet(&handle, device);
    if (error == CUDA_SUCCESS) error = cuda_.cuDevicePrimaryCtxRetain(&context, handle);
    if (error != CUDA_SUCCESS) {
      context = nullptr;
      return failure("the CUDA context of a buffer's device", error);
    }
  }
  return context;
}

Result<Allocation> Driver::locate(DeviceAddress address) const {
  unsigned type = 0;
  unsigned managed = 0;
  int device = -1;
  DeviceAddress base = 0;
  std::size_t bytes = 0;
  unsigned long long id = 0;
  unsigned exportable = 0;
  CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                      CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                      CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                      CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
                                      CU_POINTER_ATTRIBUTE_RANGE_SIZE,
                                      CU_POINTER_ATTRIBUTE_BUFFER_ID,
                                      CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE};
  void* values[] = {&type, &managed, &device, &base, &bytes, &id, &exportable};
  const CUresult error =
      cuda_.cuPointerGetAttributes(std::size(values), attributes, values, address);
  if (error != CUDA_SUCCESS) return failure("where a buffer lies", error);
  Allocation found;
  if (type != CU_MEMORYTYPE_DEVICE || managed != 0) return found;
  found = {true, device, base, bytes, id, (exportable & 1) != 0};
  return found;
}

Result<bool> Driver::mark(int device, StreamHandle stream, std::atomic<std::uint32_t>& word,
                          std::uint32_t value) {
  auto current = context(device);
  if (!current) return current.failure();
  const Use use(cuda_, current.value());
  CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
  CUresult error = use.error();
  if (error == CUDA_SUCCESS) error = cuda_.cuStreamIsCapturing(handle_of(stream), &capture);
  if (error != CUDA_SUCCESS) return failure("the stream of a buffer", error);
  if (capture != CU_STREAM_CAPTURE_STATUS_NONE) {
    return Failure{Error::kBuffer, "the buffer's stream is being captured into a CUDA graph"};
  }
  error = cuda_.cuStreamQuery(handle_of(stream));
  if (error == CUDA_SUCCESS) return false;
  if (error == CUDA_ERROR_NOT_READY) {
    error = cuda_.cuStreamWriteValue32(handle_of(stream), address_of(&word), value,
                                       CU_STREAM_WRITE_VALUE_DEFAULT);
  }
  if (error != CUDA_SUCCESS) return failure("the stream of a buffer", error);
  return true;
}

template <class Call>
Result<bool> Driver::in_stream(int device, const char* what, Call&& call) {
  auto current = context(device);
  if (!current) return current.failure();
  const Use use(cuda_, current.value());
  CUresult error = use.error();
  if (error == CUDA_SUCCESS) error = call();
  if (error != CUDA_SUCCESS) return failure(what, error);
  return true;
}

Result<bool> Driver::write_in(int device, StreamHandle stream, std::atomic<std::uint32_t>& word,
                              std::uint32_t value) {
  return in_stream(device, "the word of a stream", [&] {
    return cuda_.cuStreamWriteValue32(handle_of(stream), address_of(&word), value,
                                      CU_STREAM_WRITE_VALUE_DEFAULT);
  });
}

Result<bool> Driver::copy_in(int device, StreamHandle stream, DeviceAddress to, DeviceAddress from,
                             std::uint64_t bytes) {
  return in_stream(device, "the copy of a message in its stream",
                   [&] { return cuda_.cuMemcpyAsync(to, from, bytes, handle_of(stream)); });
}

Result<bool> Driver::copy_rows_in(int device, StreamHandle stream, const Rows& to, const Rows& from,
                                  std::uint64_t row_bytes, std::uint64_t rows) {
  CUDA_MEMCPY2D plane{};
  plane.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  plane.srcDevice = from.address;
  plane.srcPitch = from.pitch;
  plane.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  plane.dstDevice = to.address;
  plane.dstPitch = to.pitch;
  plane.WidthInBytes = row_bytes;
  plane.Height = rows;
  return in_stream(device, "the rows of a datatype",
                   [&] { return cuda_.cuMemcpy2DAsync(&plane, handle_of(stream)); });
}

Result<bool> Driver::wait_in(int device, StreamHandle stream,
                             const std::atomic<std::uint32_t>& word, std::uint32_t value) {
  return in_stream(device, "the wait of a stream (the device has stream memory operations?)", [&] {
    return cuda_.cuStreamWaitValue32(handle_of(stream), address_of(&word), value,
                                     CU_STREAM_WAIT_VALUE_GEQ);
  });
}

Result<Image> Driver::load_image(int device, const char* image) {
  CUmodule loaded = nullptr;
  auto called = in_stream(device, "the library's kernels",
                          [&] { return cuda_.cuModuleLoadData(&loaded, image); });
  if (!called) return called.failure();
  return loaded;
}

Result<Function> Driver::function_of(int device, Image image, const char* name) {
  CUfunction function = nullptr;
  auto called =
      in_stream(device, name, [&] { return cuda_.cuModuleGetFunction(&function, image, name); });
  if (!called) return called.failure();
  return function;
}

Result<bool> Driver::launch_in(int device, StreamHandle stream, Function function, unsigned blocks,
                               unsigned threads, void** parameters) {
  return in_stream(device, "a kernel of the library", [&] {
    return cuda_.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, handle_of(stream),
                                parameters, nullptr);
  });
}

Result<bool> Driver::call_in(int device, StreamHandle stream, void (*function)(void*),
                             void* argument) {
  return in_stream(device, "a stream's call of the host",
                   [&] { return cuda_.cuLaunchHostFunc(handle_of(stream), function, argument); });
}

Result<int> Driver::device_of(StreamHandle stream, int device) {
  const CUstream handle = handle_of(stream);
  const bool is_default =
      handle == nullptr || handle == kLegacyStream || handle == kPerThreadStream;
  if (is_default && device >= 0) return device;
  CUcontext of_stream = nullptr;
  CUresult error =
      is_default ? cuda_.cuCtxGetCurrent(&of_stream) : cuda_.cuStreamGetCtx(handle, &of_stream);
  if (error == CUDA_SUCCESS && of_stream == nullptr) error = CUDA_ERROR_INVALID_CONTEXT;
  if (error == CUDA_SUCCESS) {
    const std::scoped_lock lock(mutex_);
    const auto known = std::ranges::find(contexts_, of_stream);
    if (known != contexts_.end()) return static_cast<int>(known - contexts_.begin());
  }
  CUdevice found = -1;
  if (error == CUDA_SUCCESS) {
    const Use use(cuda_, of_stream);
    error = use.error();
    if (error == CUDA_SUCCESS) error = cuda_.cuCtxGetDevice(&found);
  }
  if (error != CUDA_SUCCESS) return failure("the stream", error);
  for (int ordinal = 0; ordinal < devices(); ++ordinal) {
    CUdevice known = -1;
    if (cuda_.cuDeviceGet(&known, ordinal) == CUDA_SUCCESS && known == found) return ordinal;
  }
  return failure("the stream", CUDA_ERROR_INVALID_DEVICE);
}

Result<bool> Driver::captures(int device, StreamHandle stream) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  auto asked = in_stream(device, "the stream", [&] {
    const CUresult error = cuda_.cuStreamIsCapturing(handle_of(stream), &status);
    if (error != CUDA_SUCCESS) return error;
    return status == CU_STREAM_CAPTURE_STATUS_INVALIDATED ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
                                                          : CUDA_SUCCESS;
  });
  if (!asked) return asked.failure();
  return status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

Result<Stream*> Driver::make_stream(int device) {
  auto current = context(device);
  if (!current) return current.failure();
  auto word = allocate_pinned(device, 64);
  if (!word) return word.failure();
  auto stream = std::make_unique<Stream>();
  stream->device = device;
  stream->word = new (word.value()) std::atomic<std::uint32_t>(0);
  const Use use(cuda_, current.value());
  CUresult error = use.error();
  // The highest priority there is: numbers outside of the range are taken as its end.
  constexpr int kUrgent = -100;
  if (error == CUDA_SUCCESS) {
    error = cuda_.cuStreamCreateWithPriority(&stream->handle, CU_STREAM_NON_BLOCKING, kUrgent);
  }
  if (error != CUDA_SUCCESS) return failure("a stream for messages", error);
  return stream.release();  // for the life of the process
}

Result<bool> Driver::copy(Stream& stream, DeviceAddress to, DeviceAddress from,
                          std::uint64_t bytes) {
  auto current = context(stream.device);
  if (!current) return current.failure();
  const Use use(cuda_, current.value());
  CUresult error = use.error();
  if (error == CUDA_SUCCESS) error = cuda_.cuMemcpyAsync(to, from, bytes, stream.handle);
  if (error != CUDA_SUCCESS) return failure("the copy of a message", error);
  return true;
}

Result<bool> Driver::copy_batch(Stream& stream, CopyParts& parts) {
  CUmemcpyAttributes how{};
  how.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
  how.srcLocHint = how.dstLocHint = {CU_MEM_LOCATION_TYPE_DEVICE, stream.device};
  std::size_t begin = 0;
  const auto handle = reinterpret_cast<StreamHandle>(stream.handle);
  return in_stream(stream.device, "the copies of messages", [&] {
    return cuda_.cuMemcpyBatchAsync(parts.to.data(), parts.from.data(), parts.bytes.data(),
                                    parts.to.size(), &how, &begin, 1, handle_of(handle));
  });
}

Result<bool> Driver::close_batch(Stream& stream) {
  auto current = context(stream.device);
  if (!current) return current.failure();
  const Use use(cuda_, current.value());
  CUresult error = use.error();
  if (error == CUDA_SUCCESS) {
    error = cuda_.cuStreamWriteValue32(stream.handle, address_of(stream.word), stream.submitted + 1,
                                       CU_STREAM_WRITE_VALUE_DEFAULT);
  }
  if (error != CUDA_SUCCESS) return failure("the copy of a message", error);
  ++stream.submitted;
  return true;
}

Result<bool> Driver::check(Stream& stream) {
  auto current = context(stream.device);
  if (!current) return current.failure();
  const Use use(cuda_, current.value());
  CUresult error = use.error();
  if (error == CUDA_SUCCESS) error = cuda_.cuStreamQuery(stream.handle);
  if (error == CUDA_SUCCESS || error == CUDA_ERROR_NOT_READY) return true;
  return failure("the copy of a message", error);
}

Result<std::byte*> Driver::allocate_device(int device, std::size_t bytes) {
  DeviceAddress address = 0;
  auto allocated =
      in_stream(device, "memory of a device", [&] { return cuda_.cuMemAlloc(&address, bytes); });
  if (!allocated) return allocated.failure();
  return reinterpret_cast<std::byte*>(address);
}

Result<std::byte*> Driver::allocate_pinned(int device, std::size_t bytes) {
  auto current = context(device);
  if (!current) return current.failure();
  const Use use(cuda_, current.value());
  void* address = nullptr;
  CUresult error = use.error();
  if (error == CUDA_SUCCESS) {
    error = cuda_.cuMemHostAlloc(&address, bytes, CU_MEMHOSTALLOC_PORTABLE);
  }
  if (error != CUDA_SUCCESS) return failure("pinned memory", error);
  std::memset(address, 0, bytes);
  return static_cast<std::byte*>(address);
}

Result<IpcHandle> Driver::export_memory(int device, DeviceAddress base) {
  auto current = context(device);
  if (!current) return current.failure();
  const Use use(cuda_, current.value());
  CUipcMemHandle handle;
  CUresult error = use.error();
  if (error == CUDA_SUCCESS) error = cuda_.cuIpcGetMemHandle(&handle, base);
  if (error != CUDA_SUCCESS) return failure("an IPC handle of a buffer", error);
  IpcHandle bytes;
  std::memcpy(bytes.data(), &handle, sizeof handle);
  return bytes;
}

Result<DeviceAddress> Driver::open_memory(int device, const IpcHandle& handle) {
  auto current = context(device);
  if (!current) return current.failure();
  const Use use(cuda_, current.value());
  CUipcMemHandle bytes;
  std::memcpy(&bytes, handle.data(), sizeof bytes);
  DeviceAddress base = 0;
  CUresult error = use.error();
  if (error == CUDA_SUCCESS) {
    error = cuda_.cuIpcOpenMemHandle(&base, bytes, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  }
  if (error != CUDA_SUCCESS) return failure("the peer's buffer cannot be opened", error);
  return base;
}

void Driver::close_memory(int device, DeviceAddress base) noexcept {
  auto current = context(device);
  if (!current) return;
  const Use use(cuda_, current.value());
  if (use.error() == CUDA_SUCCESS) cuda_.cuIpcCloseMemHandle(base);
}

}  // namespace mooncake_mpi::cuda_driver
