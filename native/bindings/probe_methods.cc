// Probe and Iprobe of a communicator. With the interpreter's lock (GIL) held, which a wait gives
// back while it sleeps.
#include "bindings/probe_methods.h"

#include "bindings/arguments.h"
#include "bindings/communicator.h"
#include "bindings/request_completion.h"
#include "bindings/waiting.h"

namespace mooncake_mpi::bindings {
namespace {

constexpr Signature<3> kProbe{"Probe", {"source", "tag", "status"}, 0};
constexpr Signature<3> kIprobe{"Iprobe", {"source", "tag", "status"}, 0};

struct ProbeCall {
  Communicator* communicator = nullptr;
  PyObject* status = nullptr;
  int source = 0;
  int tag = 0;
  bool proc_null = false;
};

bool prepare_probe(const Signature<3>& signature, PyObject* self, PyObject* const* args,
                   Py_ssize_t nargs, PyObject* kwnames, ProbeCall& call) {
  Signature<3>::Values values;
  if (!signature.parse(args, nargs, kwnames, values) || !check_status(values[2])) return false;
  call.status = values[2];
  const Constants& constants = runtime().constants;
  if (!to_int(values[0], constants.any_source, call.source)) return false;
  if (!to_int(values[1], constants.any_tag, call.tag)) return false;
  call.communicator = communicator_of(self);
  if (call.communicator == nullptr) return false;
  if (!check_source(*call.communicator, call.source)) return false;
  if (!check_receive_tag(*call.communicator, call.tag)) return false;
  call.proc_null = call.source == constants.proc_null;
  return !call.proc_null || check_not_revoked(*call.communicator);
}

}  // namespace

PyObject* raise_no_message(Error error, Context& context, int source) {
  if (error == Error::kCommunicator) {
    return raise_error(error, "invalid communicator: it was freed while this call waited");
  }
  Completion completion;
  completion.source = source;
  std::string why;
  if (error == Error::kUnreachable) why = runtime().engine->why_lost(context, source);
  return raise_completion_error(error, completion, &why);
}

PyObject* comm_probe(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  ProbeCall call;
  if (!prepare_probe(kProbe, self, args, nargs, kwnames, call)) return nullptr;
  Completion completion = proc_null_completion();
  if (!call.proc_null) {
    Engine::Envelope envelope{};
    const ContextHold hold(*call.communicator);
    auto found = [&] {
      return runtime().engine->iprobe(hold.context(), call.source, call.tag, envelope);
    };
    if (!wait_until(found, [&](WaitRecord& record) {
          record.call = "Probe";
          record.probed = &hold.context();
          record.source = call.source;
          record.tag = call.tag;
        })) {
      return nullptr;
    }
    if (envelope.error != Error::kNone) {
      return raise_no_message(envelope.error, hold.context(), call.source);
    }
    completion = {Error::kNone, false, envelope.source, envelope.tag, -1, envelope.bytes};
  }
  if (!fill_status(call.status, completion)) return nullptr;
  Py_RETURN_TRUE;
}

PyObject* comm_iprobe(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  ProbeCall call;
  if (!prepare_probe(kIprobe, self, args, nargs, kwnames, call)) return nullptr;
  Completion completion = proc_null_completion();
  if (!call.proc_null) {
    Engine::Envelope envelope{};
    Context& context = call.communicator->context();
    if (!runtime().engine->iprobe(context, call.source, call.tag, envelope)) Py_RETURN_FALSE;
    if (envelope.error != Error::kNone) {
      return raise_no_message(envelope.error, context, call.source);
    }
    completion = {Error::kNone, false, envelope.source, envelope.tag, -1, envelope.bytes};
  }
  if (!fill_status(call.status, completion)) return nullptr;
  Py_RETURN_TRUE;
}

}  // namespace mooncake_mpi::bindings
