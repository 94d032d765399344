// Sends and receives that the package starts as one. With the interpreter's lock (GIL) held; all of
// them are posted under one hold of the engine's own lock.
#include <utility>
#include <vector>

#include "bindings/checks.h"
#include "bindings/module.h"
#include "bindings/posting.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

struct Part {
  BufferView view;
  Posting posting;
  bool proc_null = false;
};

// (send, buf, rank, tag). It runs code of the program.
Part read_part(nb::handle given) {
  const auto fields = nb::cast<nb::tuple>(given);
  if (fields.size() != 4) throw nb::value_error("expected (send, buf, rank, tag)");
  Part part;
  const bool send = nb::cast<bool>(fields[0]);
  part.posting.kind = send ? Posting::Kind::kSend : Posting::Kind::kReceive;
  part.posting.rank = Int(fields[2].ptr()).number();
  part.posting.tag = Int(fields[3].ptr()).number();
  require(part.view.acquire(nb::object(fields[1]).ptr(), !send, part.posting.rank));
  return part;
}

void check_part(Communicator& communicator, Part& part) {
  Posting& posting = part.posting;
  part.proc_null = posting.rank == runtime().constants.proc_null;
  if (posting.kind == Posting::Kind::kSend) {
    require(check_dest(communicator, posting.rank) && check_send_tag(communicator, posting.tag));
  } else {
    check_receive(communicator, posting.rank, posting.tag, posting.channel);
  }
  if (part.proc_null) require(check_not_revoked(communicator));
  posting.context = &communicator.context();
  posting.buffer = part.view.buffer();
}

nb::list post_batch(Communicator& communicator, nb::object given) {
  const nb::tuple operations(given);  // the program's code may change what it gave
  std::vector<Part> parts;
  for (nb::handle operation : operations)
    parts.push_back(read_part(operation));
  require_usable(communicator);  // after code of the program, which may free it
  std::vector<Posting> postings;
  for (Part& part : parts) {
    check_part(communicator, part);
    if (!part.proc_null) postings.push_back(std::move(part.posting));
  }
  post_and_leave(postings);
  nb::list requests;
  bool ok = true;
  auto next = postings.begin();
  for (Part& part : parts) {  // of all, whatever fails: what is posted needs its buffer
    PyObject* request = part.proc_null
                            ? new_request(nullptr, proc_null_completion(), std::move(part.view))
                            : wrap_posting(*next++, std::move(part.view));
    ok = request != nullptr && PyList_Append(requests.ptr(), request) == 0 && ok;
    Py_XDECREF(request);
  }
  require(ok);
  return requests;
}

}  // namespace

void define_batch(nb::module_& m) {
  m.def("post_batch", &post_batch,
        nb::sig("def post_batch(communicator: Communicator, "
                "operations: Sequence[tuple[bool, Any, int, int]]) -> "
                "list[mooncake_mpi.requests.Request]"),
        "communicator"_a, "operations"_a,
        "Start sends and receives as one, in order: (send, buf, rank, tag) each. Where one cannot "
        "be started its request is complete with the error, and those behind it are started.");
}

}  // namespace mooncake_mpi::bindings
