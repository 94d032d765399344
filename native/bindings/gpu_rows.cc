// Rows of a GPU's array, of a datatype with gaps, as one piece of the GPU's memory. With the
// interpreter's lock (GIL) held, but while the driver is asked.
#include <memory>
#include <utility>

#include "bindings/checks.h"
#include "bindings/device_array.h"
#include "bindings/interpreter_lock.h"
#include "bindings/module.h"
#include "bindings/waiting.h"
#include "memory/cuda/gpu_memory.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

// What is sent is gathered in the order of the array's stream, and what was received is put into
// the rows when the message has ended.
class GpuRows {
 public:
  GpuRows(std::uint64_t address, std::uint64_t row_bytes, std::uint64_t pitch, std::uint64_t rows,
          std::uintptr_t stream, bool receives)
      : memory_(*value_or_throw(gpu_memory())),
        address_(address),
        row_bytes_(row_bytes),
        pitch_(pitch),
        receives_(receives) {
    Result<bool> begun = [&] {
      const InterpreterUnlocked unlocked;
      return begin(rows, stream);
    }();
    value_or_throw(std::move(begun));
  }

  std::uint64_t address() const noexcept { return number(); }

  void unpack(std::uint64_t bytes) {
    if (!receives_ || bytes == 0) return;
    const std::uint64_t whole = bytes / row_bytes_;
    if (whole != 0) put({row_bytes_, whole}, 0);
    if (bytes % row_bytes_ != 0) put({bytes % row_bytes_, 1}, whole);
  }

 private:
  struct Part {
    std::uint64_t row_bytes;
    std::uint64_t rows;
  };

  cuda_driver::DeviceAddress number() const noexcept {
    return reinterpret_cast<cuda_driver::DeviceAddress>(block_->memory());
  }

  Result<bool> begin(std::uint64_t rows, std::uintptr_t stream) {
    auto located = memory_.driver().locate(address_);
    if (!located) return located.failure();
    device_ = located.value().device;
    auto block = memory_.device_blocks(device_).take(device_, rows * row_bytes_);
    if (!block) return block.failure();
    block_ = block.value();
    if (receives_) return true;
    auto copied = memory_.driver().copy_rows_in(device_, stream, {number(), row_bytes_},
                                                {address_, pitch_}, row_bytes_, rows);
    if (!copied) return copied;
    auto moment = memory_.moments().take(device_, stream, cuda::Moments::Heard::kByNobody);
    if (!moment) return moment.failure();
    block_->used_until(std::make_shared<const cuda::Moment>(std::move(moment).value()));
    return true;
  }

  void put(const Part& part, std::uint64_t first_row) {
    auto copy = memory_.queue().submit({.kind = cuda::Copy::Kind::kUp,
                                        .device = device_,
                                        .to = address_ + first_row * pitch_,
                                        .from = number() + first_row * row_bytes_,
                                        .bytes = part.row_bytes,
                                        .after = nullptr,
                                        .rows = part.rows,
                                        .to_pitch = pitch_});
    const bool waited = wait_until([&] { return copy->over(); }, "unpack", nullptr);
    while (!memory_.queue().drop(*copy)) {  // it writes to the program's memory
    }
    require(waited);
    if (copy->failed()) throw EngineFailure({Error::kBuffer, memory_.queue().trouble()});
  }

  cuda::GpuMemory& memory_;
  cuda_driver::DeviceAddress address_;
  std::uint64_t row_bytes_;
  std::uint64_t pitch_;
  bool receives_;
  int device_ = -1;
  std::shared_ptr<cuda::Block> block_;
};

}  // namespace

void define_gpu_rows(nb::module_& m) {
  nb::class_<GpuRows>(m, "GpuRows", "Rows of a GPU's array, in one piece of the GPU's memory.")
      .def(nb::init<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t, std::uintptr_t,
                    bool>(),
           "address"_a, "row_bytes"_a, "pitch"_a, "rows"_a, "stream"_a, "receives"_a,
           "What is to be sent is gathered when `stream` has come here.")
      .def_prop_ro("address", &GpuRows::address, "Of the piece.")
      .def("unpack", &GpuRows::unpack, "nbytes"_a,
           "Put what was received, so many bytes, into the rows; of what is sent nothing.");
}

}  // namespace mooncake_mpi::bindings
