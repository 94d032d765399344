// NumPy's data allocator (NEP 49) over memory made for messages. NumPy's C API is taken from its
// capsule at run time: neither its headers nor its version matter at build time.
// The allocator calls nothing of Python's, and takes the pool's lock; the rest needs the GIL.
#include <Python.h>

#include <cstdint>
#include <cstring>

#include "bindings/module.h"
#include "memory/shared_pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

// As numpy/ndarraytypes.h has them, unchanged since NumPy 1.22.
struct Allocator {
  void* context;
  void* (*malloc)(void* context, std::size_t bytes);
  void* (*calloc)(void* context, std::size_t count, std::size_t bytes);
  void* (*realloc)(void* context, void* address, std::size_t bytes);
  void (*free)(void* context, void* address, std::size_t bytes);
};
struct Handler {
  char name[127];
  std::uint8_t version;
  Allocator allocator;
};
static_assert(offsetof(Handler, allocator) == 128);

constexpr const char* kCapsuleName = "mem_handler";
// Slots of NumPy's table.
constexpr int kSetHandler = 304;
constexpr int kDefaultHandler = 306;

// What is small or finds no room goes where it went before.
struct State {
  Handler handler;
  Allocator ordinary;
  std::size_t threshold_bytes;
};

void* from_pool(const State& state, std::size_t bytes, bool zeroed) {
  if (bytes < state.threshold_bytes) return nullptr;
  const Arena::Block block = process_pool().allocate(bytes);
  if (block.address != nullptr && zeroed && !block.zeroed) std::memset(block.address, 0, bytes);
  return block.address;
}

void* allocate(void* context, std::size_t bytes) {
  const State& state = *static_cast<State*>(context);
  if (void* address = from_pool(state, bytes, false)) return address;
  return state.ordinary.malloc(state.ordinary.context, bytes);
}

void* allocate_zeroed(void* context, std::size_t count, std::size_t bytes) {
  const State& state = *static_cast<State*>(context);
  std::size_t total;
  if (!__builtin_mul_overflow(count, bytes, &total)) {
    if (void* address = from_pool(state, total, true)) return address;
  }
  return state.ordinary.calloc(state.ordinary.context, count, bytes);
}

void release(void* context, void* address, std::size_t bytes) {
  const State& state = *static_cast<State*>(context);
  if (!process_pool().free(address)) {
    state.ordinary.free(state.ordinary.context, address, bytes);
  }
}

void* reallocate(void* context, void* address, std::size_t bytes) {
  const State& state = *static_cast<State*>(context);
  const std::size_t room = address != nullptr ? process_pool().block_bytes(address) : 0;
  if (room == 0) return state.ordinary.realloc(state.ordinary.context, address, bytes);
  if (bytes <= room && bytes > room / 2) return address;
  void* moved = allocate(context, bytes);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, address, bytes < room ? bytes : room);
  process_pool().free(address);
  return moved;
}

void** table_of(nb::handle array_api) {
  auto* table = static_cast<void**>(PyCapsule_GetPointer(array_api.ptr(), nullptr));
  if (table == nullptr) throw nb::python_error();
  return table;
}

// The state is never freed: arrays that outlive everything else still point to it.
nb::object make_handler(nb::handle array_api, std::size_t threshold_bytes) {
  PyObject* ordinary = *static_cast<PyObject**>(table_of(array_api)[kDefaultHandler]);
  auto* base = static_cast<Handler*>(PyCapsule_GetPointer(ordinary, kCapsuleName));
  if (base == nullptr) throw nb::python_error();
  auto* state = new State{
      {"mooncake_mpi", 1, {nullptr, allocate, allocate_zeroed, reallocate, release}},
      base->allocator,
      threshold_bytes,
  };
  state->handler.allocator.context = state;
  PyObject* capsule = PyCapsule_New(&state->handler, kCapsuleName, nullptr);
  if (capsule == nullptr) throw nb::python_error();
  return nb::steal(capsule);
}

nb::object set_handler(nb::handle array_api, nb::handle handler) {
  auto set = reinterpret_cast<PyObject* (*)(PyObject*)>(table_of(array_api)[kSetHandler]);
  PyObject* previous = set(handler.is_none() ? nullptr : handler.ptr());
  if (previous == nullptr) throw nb::python_error();
  return nb::steal(previous);
}

}  // namespace

void define_numpy_handler(nb::module_& m) {
  m.def("make_numpy_handler", &make_handler,
        nb::sig("def make_numpy_handler(array_api: Any, threshold_bytes: int) -> Any"),
        "array_api"_a, "threshold_bytes"_a,
        "A data allocator for NumPy: arrays of so many bytes and more get memory that peers can "
        "map.");
  m.def("set_numpy_handler", &set_handler,
        nb::sig("def set_numpy_handler(array_api: Any, handler: Any) -> Any"), "array_api"_a,
        "handler"_a.none(),
        "Make a data allocator the current one of this context; the previous one.");
}

}  // namespace mooncake_mpi::bindings
