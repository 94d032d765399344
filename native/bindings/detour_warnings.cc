// Warnings of the engine's that the package gives: told with the engine's lock held and without the
// interpreter's (GIL), given with it as the other notices are.
#include "bindings/detour_warnings.h"

#include <new>
#include <string>
#include <utility>

#include "bindings/notices.h"
#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {
namespace {

struct Warning final : Notices::Notice {
  explicit Warning(std::string&& words) noexcept : text(std::move(words)) {}
  // What a program has made an error of is reported, and raised in no call: none has failed.
  void settle() override {
    PyObject* hook = runtime().hooks.warn_of_detour;
    if (hook == nullptr) return;
    PyObject* result = PyObject_CallFunction(hook, "s", text.c_str());
    if (result == nullptr) PyErr_WriteUnraisable(hook);
    Py_XDECREF(result);
  }

  std::string text;
};

}  // namespace

void warn_of_detours(Engine& engine) {
  engine.ways().set_on_detour([](std::string&& text) {
    auto* warning = new (std::nothrow) Warning(std::move(text));
    if (warning != nullptr) warning->on_done();
  });
}

}  // namespace mooncake_mpi::bindings
