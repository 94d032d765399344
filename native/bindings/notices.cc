// What Python does about operations that nobody waits for, once they are done. tell() is called by
// any thread, under the engine's lock; everything else with the interpreter's lock (GIL) held.
#include "bindings/notices.h"

#include <new>
#include <utility>

#include "bindings/interruptions.h"
#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {
namespace {

struct Orphan final : Notices::Notice {
  Orphan(Operation& left, BufferView&& its_view) noexcept
      : operation(left), view(std::move(its_view)) {}
  void settle() override { end_unwatched(operation, view); }

  Operation& operation;
  BufferView view;
};

struct Callback final : Notices::Notice {
  explicit Callback(PyObject* function) noexcept : callable(Py_NewRef(function)) {}
  ~Callback() override { Py_DECREF(callable); }
  void settle() override {
    PyObject* result = PyObject_CallNoArgs(callable);
    if (result == nullptr) PyErr_WriteUnraisable(callable);
    Py_XDECREF(result);
  }

  PyObject* callable;
};

int settle_pending(void*) {
  notices().settle_scheduled();
  return notices().raise_interruption() ? -1 : 0;
}

}  // namespace

Notices& notices() noexcept {
  static auto* instance = new Notices;  // told until the process ends
  return *instance;
}

void Notices::Notice::on_done() noexcept {
  notices().tell(*this);
}

void Notices::adopt(Operation& operation, BufferView&& view) noexcept {
  settle();
  auto* orphan = new (std::nothrow) Orphan(operation, std::move(view));
  if (orphan == nullptr) return;  // the operation and its buffer stay for ever
  if (runtime().engine->watch_completion(operation, *orphan)) return;
  orphan->settle();
  delete orphan;
}

bool Notices::call_when_done(Operation& operation, PyObject* callable) {
  auto* callback = new Callback(callable);
  if (runtime().engine->watch_completion(operation, *callback)) return true;
  delete callback;
  return false;
}

void Notices::tell(Notice& notice) noexcept {
  notice.next = told_.load(std::memory_order_relaxed);
  while (!told_.compare_exchange_weak(notice.next, &notice, std::memory_order_release,
                                      std::memory_order_relaxed)) {
  }
  // A full queue of the interpreter: the next call that waits, or leaves a request, settles it.
  if (!closed_.load() && !scheduled_.exchange(true) &&
      Py_AddPendingCall(settle_pending, nullptr) != 0) {
    scheduled_.store(false);
  }
}

// Only the scheduled call itself says that none is scheduled any more, also when another call has
// settled everything before it: who told in between relies on what he saw. It says so at its end:
// a traced function that the interpreter (3.11) calls here does not get past its first instruction
// while another call is queued.
void Notices::settle_scheduled() noexcept {
  do {
    settle();
    scheduled_.store(false);
  } while (told_.load() != nullptr && !scheduled_.exchange(true));
}

void Notices::settle_told() noexcept {
  Notice* newest = told_.exchange(nullptr, std::memory_order_acquire);
  Notice* oldest = nullptr;
  while (newest != nullptr) {
    Notice* next = std::exchange(newest->next, oldest);
    oldest = std::exchange(newest, next);
  }
  if (oldest == nullptr) return;
  // A request may be dropped while an exception is on its way.
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  while (oldest != nullptr) {
    Notice* notice = std::exchange(oldest, oldest->next);
    notice->settle();
    delete notice;
  }
  PyErr_Restore(type, value, traceback);
}

// The program hears of it at the next wait, or between two instructions.
void Notices::raise_later(PyObject* exception) noexcept {
  if (interruption_ != nullptr) {
    Py_DECREF(exception);
    return;
  }
  interruption_ = exception;
  interrupted_thread_ = PyThread_get_thread_ident();
  ask_to_settle();
}

void Notices::ask_to_settle() noexcept {
  if (!scheduled_.exchange(true) && Py_AddPendingCall(settle_pending, nullptr) != 0)
    scheduled_.store(false);
}

bool Notices::raise_interruption_aside() noexcept {
  if (PyThread_get_thread_ident() != interrupted_thread_) return false;
  PyObject* exception = std::exchange(interruption_, nullptr);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception)), exception);
  Py_DECREF(exception);
  return true;
}

void end_unwatched(Operation& operation, BufferView& view) noexcept {
  const Completion completion = operation.completion;
  runtime().engine->release(operation);
  const bool usable = completion.error == Error::kNone || completion.error == Error::kTruncate;
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  if (view.finish() != nullptr && usable && !completion.cancelled) {
    PyObject* done = call_whole([&] {
      return PyObject_CallFunction(view.finish(), "K",
                                   static_cast<unsigned long long>(completion.bytes));
    });
    if (done == nullptr) PyErr_WriteUnraisable(view.finish());
    Py_XDECREF(done);
  }
  view.release();
  PyErr_Restore(type, value, traceback);
}

}  // namespace mooncake_mpi::bindings
