// What the package does with requests that it has: waits for them, is told of their end. With the
// interpreter's lock (GIL) held, which a wait gives back while it sleeps.
#include "bindings/checks.h"
#include "bindings/module.h"
#include "bindings/notices.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"
#include "bindings/request_sets.h"
#include "bindings/request_type.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

nb::object completed_request(int) {
  return steal_or_throw(new_request(nullptr, proc_null_completion(), BufferView()));
}

bool call_when_done(nb::object request, nb::object callable) {
  if (!PyObject_TypeCheck(request.ptr(), reinterpret_cast<PyTypeObject*>(request_base_type()))) {
    throw nb::type_error("expected a Request");
  }
  const auto& object = *reinterpret_cast<RequestObject*>(request.ptr());
  return object.operation != nullptr && notices().call_when_done(*object.operation, callable.ptr());
}

nb::object wait_requests(nb::object requests, bool all, int timeout_ms) {
  return steal_or_throw(wait_for_requests(requests.ptr(), all, timeout_ms));
}

}  // namespace

void define_requests(nb::module_& m) {
  m.def(
      "to_int", [](Int value) { return value.number(); }, nb::sig("def to_int(value: Any) -> int"),
      "value"_a, "What a rank, a tag or a number of a partition means, as mpi4py takes it.");
  m.def("completed_request", &completed_request,
        nb::sig("def completed_request(source: int) -> "
                "mooncake_mpi.requests.Request"),
        "source"_a, "A request that is complete: an operation with PROC_NULL.");
  m.def(
      "wait_for_requests", &wait_requests,
      nb::sig(
          "def wait_for_requests(requests: Sequence[Request], all: bool, timeout_ms: int) -> bool"),
      "requests"_a, "all"_a, "timeout_ms"_a,
      "Wait until one (or all) of the engine's requests is complete; the requests are not ended.");
  m.def("call_when_done", &call_when_done,
        nb::sig("def call_when_done(request: Request, callable: Callable[[], Any]) -> bool"),
        "request"_a, "callable"_a,
        "Call soon after the request's operation is done, in any thread; False if it is done.");
}

}  // namespace mooncake_mpi::bindings
