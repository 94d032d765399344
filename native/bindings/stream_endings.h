// What is done when a message in the order of a stream has ended: its stream goes on, its error is
// told, what it brought gets to the program's array. Used by stream_order.cc alone.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "bindings/buffer_view.h"
#include "bindings/notices.h"
#include "memory/cuda/gpu_memory.h"
#include "protocol/operation.h"

namespace mooncake_mpi::bindings {

// Lets a stream go on when the message has ended, well or not: by whoever completes it, with the
// engine's lock held and without the interpreter's (GIL).
class GateKeeper final : public CompletionWatch {
 public:
  explicit GateKeeper(cuda::Gate gate, std::shared_ptr<cuda::StreamWork> work = nullptr);
  void on_done() noexcept override;
  static void open_all() noexcept;
  // Of one that may be gone; its number is never used again.
  std::uint64_t number() const noexcept { return number_; }
  static void open(std::uint64_t number) noexcept;

 private:
  void let_go() noexcept;
  std::uint64_t number_ = 0;
  cuda::Gate gate_;
  std::shared_ptr<cuda::StreamWork> work_;
};

// Of a message that nobody has a request for: its error is the communicator's. GIL held.
class Unattended final : public Notices::Notice {
 public:
  Unattended(Operation& operation, BufferView&& view)
      : operation_(operation), context_(operation.context_number), view_(std::move(view)) {}
  void settle() override;

 private:
  Operation& operation_;
  std::uint32_t context_;
  BufferView view_;
};

// Of a receive whose request was dropped: what came is brought into the array all the same. That
// is kept until it is there, and given back by who has the GIL.
class Landing final : public Notices::Notice {
 public:
  Landing(Operation& operation, BufferView&& view, cuda::GpuMemory& memory, const cuda::Turn& turn,
          cuda_driver::DeviceAddress array);
  void settle() override;

 private:
  struct Kept final : Notices::Notice {
    Kept(BufferView&& its_view, const cuda::Turn& its_turn)
        : view(std::move(its_view)), turn(its_turn) {}
    void settle() override { view.release(); }

    BufferView view;
    cuda::Turn turn;
  };

  Operation& operation_;
  cuda::GpuMemory& memory_;
  cuda_driver::DeviceAddress array_;
  std::shared_ptr<Kept> kept_;
};

bool has_bytes(const Completion& completion) noexcept;

// The way of what a receive got from pinned memory into the program's array.
std::shared_ptr<cuda::Copy> bring(cuda::GpuMemory& memory, const cuda::Turn& turn,
                                  cuda_driver::DeviceAddress array,
                                  std::shared_ptr<const void> kept = nullptr);

// Has it settled once the operation is done. GIL held.
void settle_when_done(Operation& operation, Notices::Notice* notice);

}  // namespace mooncake_mpi::bindings
