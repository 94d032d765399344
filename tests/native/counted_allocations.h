// Replaces the program's operator new by one that counts, and fails when it is told to; for one
// source of an executable. Not inlined: the compiler would see free() called on what new gave.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

namespace mooncake_mpi::testing {

// Of this thread.
inline thread_local std::uint64_t allocations = 0;
// There is no memory for this thread.
inline thread_local bool refuse_allocations = false;
// Nor is there after so many more.
inline thread_local std::uint64_t allocations_left = UINT64_MAX;

}  // namespace mooncake_mpi::testing

[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++mooncake_mpi::testing::allocations;
  if (mooncake_mpi::testing::refuse_allocations) return nullptr;
  if (mooncake_mpi::testing::allocations_left == 0) return nullptr;
  if (mooncake_mpi::testing::allocations_left != UINT64_MAX)
    --mooncake_mpi::testing::allocations_left;
  return std::malloc(bytes);
}
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (void* memory = operator new(bytes, std::nothrow); memory != nullptr) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
