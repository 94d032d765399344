// Waits for several requests: Waitall, and a slice of the package's waits for one or all. With the
// interpreter's lock (GIL) held, which a wait gives back while it sleeps.
#include "bindings/request_sets.h"

#include <algorithm>
#include <string>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"
#include "bindings/waiting.h"

namespace mooncake_mpi::bindings {
namespace {

constexpr Signature<2> kWaitall{"Waitall", {"requests", "statuses"}, 1};

// The engine's plain requests of a list or tuple; false when there is anything else in it.
bool collect(PyObject* sequence, std::vector<RequestObject*>& requests) {
  const bool list = PyList_Check(sequence);
  if (!list && !PyTuple_Check(sequence)) return false;
  const Py_ssize_t count = list ? PyList_Size(sequence) : PyTuple_Size(sequence);
  requests.reserve(static_cast<std::size_t>(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* item = list ? PyList_GetItem(sequence, i) : PyTuple_GetItem(sequence, i);
    RequestObject* request = plain_owner(item);
    if (request == nullptr) return false;
    requests.push_back(request);
  }
  return true;
}

bool waiting(const RequestObject& request) noexcept {
  return request.state == RequestObject::State::kActive && !is_complete(request);
}

void add_operations(const std::vector<RequestObject*>& requests, WaitRecord& record) {
  for (const RequestObject* request : requests) {
    if (waiting(*request)) record.operations.push_back(request->operation->id());
  }
}

// One wait of the package, of which a slice is a call from it: the same requests, right again.
struct SlicedWait {
  std::uint64_t first_operation = 0;
  std::uint64_t since_ns = 0;
  std::uint64_t last_ns = 0;
  LibraryLook look{};

  static constexpr std::uint64_t kGapNs = 20'000'000;
  static constexpr std::uint64_t kLongNs = 50'000'000;  // told to the engine from then on
  // Between two looks at requests of the MPI library, of a wait that is long already.
  static constexpr std::uint64_t kLongSliceNs = 2'000'000;

  // How long it lasts already.
  std::uint64_t waited_ns(std::uint64_t operation, std::uint64_t now) noexcept {
    if (operation != first_operation || now - last_ns > kGapNs) {
      *this = {operation, now, now, {}};
    }
    return now - since_ns;
  }
};

// Keeps the requests alive while the GIL is released: another thread may change the list.
class Holder {
 public:
  explicit Holder(const std::vector<RequestObject*>& requests) : requests_(requests) {
    for (RequestObject* request : requests_)
      Py_INCREF(reinterpret_cast<PyObject*>(request));
  }
  ~Holder() {
    for (RequestObject* request : requests_)
      Py_DECREF(reinterpret_cast<PyObject*>(request));
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

 private:
  const std::vector<RequestObject*>& requests_;
};

}  // namespace

PyObject* wait_all(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  Signature<2>::Values values;
  if (!kWaitall.parse(args, nargs, kwnames, values)) return nullptr;
  const bool ignore_statuses = values[1] == nullptr || values[1] == Py_None;
  std::vector<RequestObject*> requests;
  if (!ignore_statuses || !collect(values[0], requests)) {
    PyObject* statuses = values[1] != nullptr ? values[1] : Py_None;
    return with_interpreter([&] {
      return PyObject_CallFunctionObjArgs(runtime().hooks.wait_all, values[0], statuses, nullptr);
    });
  }
  Holder holder(requests);
  std::size_t next = 0;
  auto all_done = [&] {
    while (next < requests.size() && !waiting(*requests[next]))
      ++next;
    return next == requests.size();
  };
  if (!wait_until(all_done, [&](WaitRecord& record) {
        record.call = "Waitall";
        add_operations(requests, record);
      })) {
    return nullptr;
  }
  Error first = Error::kNone;
  std::size_t failed = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Error error = finish_request(*requests[i], nullptr);
    if (PyErr_Occurred()) return nullptr;
    if (error != Error::kNone && first == Error::kNone) {
      first = error;
      failed = i;
    }
  }
  if (first == Error::kNone) Py_RETURN_TRUE;
  const std::string message = "requests[" + std::to_string(failed) + "] failed with MPI_" +
                              error_name(first).data() + ": " +
                              failure_message(*requests[failed], first);
  raise_error("ERR_IN_STATUS", message.c_str());
  set_error_context(requests[failed]->context, first);
  return nullptr;
}

PyObject* wait_for_requests(PyObject* sequence, bool all, int timeout_ms) {
  std::vector<RequestObject*> requests;
  if (!collect(sequence, requests)) {
    PyErr_SetString(PyExc_TypeError, "expected a list or tuple of mooncake_mpi requests");
    return nullptr;
  }
  Holder holder(requests);
  auto done = [&] {
    for (const RequestObject* request : requests) {
      if (waiting(*request) == all) return !all;
    }
    return all;
  };
  if (done()) Py_RETURN_TRUE;
  static thread_local SlicedWait sliced;
  WaitRecord record;
  record.call = all ? "Waitall" : "Waitany";
  record.one_of_many = !all;
  add_operations(requests, record);
  const std::uint64_t waited =
      sliced.waited_ns(record.operations.empty() ? 0 : record.operations.front(), now_ns());
  const bool is_long = waited >= SlicedWait::kLongNs;
  LongWait wait(sliced.look);
  if (is_long && !wait.go_on(waited, [&](WaitRecord& out) {
        record.since_ns = out.since_ns;
        out = record;
      })) {
    return nullptr;
  }
  WaitResult result;
  {
    const InterpreterUnlocked unlocked;
    const std::uint64_t slice = static_cast<std::uint64_t>(timeout_ms) * 1'000'000u;
    result = runtime().engine->wait(
        done, is_long ? std::max(slice, SlicedWait::kLongSliceNs) : slice, is_long);
  }
  notices().settle();
  sliced.last_ns = now_ns();
  if (PyErr_CheckSignals() != 0) return nullptr;
  return PyBool_FromLong(result == WaitResult::kDone);
}

}  // namespace mooncake_mpi::bindings
