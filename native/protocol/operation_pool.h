#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "protocol/operation.h"

namespace mooncake_mpi {

// Operations, made in slabs and never given back, so that an index stays valid for ever.
class OperationPool {
 public:
  Operation& acquire(Operation::Kind kind) {
    if (free_.empty()) grow();
    Operation& operation = *free_.back();
    free_.pop_back();
    ++operation.generation;
    operation.kind = kind;
    operation.done.store(0, std::memory_order_relaxed);
    operation.owned = true;
    operation.completion = {};
    ++live_;
    return operation;
  }

  void release(Operation& operation) noexcept {
    operation.stage = Operation::Stage::kIdle;
    operation.owned = false;
    operation.allocate_on_match = false;
    operation.background = false;
    if (operation.unusual) [[unlikely]]
      operation.forget_unusual();
    operation.owned_buffer.reset();
    operation.peer = nullptr;
    operation.context = nullptr;
    --live_;
    free_.push_back(&operation);  // capacity was reserved by grow()
  }

  // The live operation of that id, or nullptr: ids come from other processes.
  Operation* find(std::uint64_t id) const noexcept {
    const auto index = static_cast<std::uint32_t>(id);
    if (index >= slabs_.size() * kSlab) return nullptr;
    Operation& operation = slabs_[index / kSlab][index % kSlab];
    const bool live = operation.generation == static_cast<std::uint32_t>(id >> 32) &&
                      operation.stage != Operation::Stage::kIdle;
    return live ? &operation : nullptr;
  }

  template <class Visit>
  void for_each_live(Visit&& visit) const {
    // By index: `visit` may start an operation, and so add a slab.
    for (std::size_t slab = 0; slab < slabs_.size(); ++slab) {
      for (std::uint32_t i = 0; i < kSlab; ++i) {
        Operation& operation = slabs_[slab][i];
        if (operation.stage != Operation::Stage::kIdle) visit(operation);
      }
    }
  }

  std::size_t live() const noexcept { return live_; }

 private:
  static constexpr std::uint32_t kSlab = 64;

  void grow() {
    const auto base = static_cast<std::uint32_t>(slabs_.size() * kSlab);
    // All that can fail comes before any of it counts.
    free_.reserve((slabs_.size() + 1) * kSlab);
    slabs_.push_back(std::make_unique<Operation[]>(kSlab));
    for (std::uint32_t i = kSlab; i-- > 0;) {
      slabs_.back()[i].index = base + i;
      free_.push_back(&slabs_.back()[i]);
    }
  }

  std::vector<std::unique_ptr<Operation[]>> slabs_;
  std::vector<Operation*> free_;
  std::size_t live_ = 0;
};

}  // namespace mooncake_mpi
