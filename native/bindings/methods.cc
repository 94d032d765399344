#include "bindings/methods.h"

#include <deque>
#include <string>
#include <string_view>

#include "bindings/communicator.h"
#include "bindings/guard.h"
#include "bindings/object_methods.h"
#include "bindings/persistent.h"
#include "bindings/probe_methods.h"
#include "bindings/receive_methods.h"
#include "bindings/send_methods.h"
#include "bindings/sendrecv_methods.h"

namespace mooncake_mpi::bindings {
namespace {

template <auto kFunction>
PyMethodDef define(const char* name, const char* doc) {
  return {name, reported_fast<kFunction>(), METH_FASTCALL | METH_KEYWORDS, doc};
}

// Alive as long as the types that refer to them.
PyMethodDef definitions[] = {
    define<comm_send>(
        "Send",
        "Send($self, buf, dest, tag=0)\n--\n\n"
        "Blocking standard-mode send (MPI-4.1 3.2.1): returns when `buf` may be used again."),
    define<comm_ssend>(
        "Ssend",
        "Ssend($self, buf, dest, tag=0)\n--\n\n"
        "Blocking synchronous send (MPI-4.1 3.4): returns when the message has matched."),
    define<comm_rsend>(
        "Rsend", "Rsend($self, buf, dest, tag=0)\n--\n\nBlocking ready-mode send (MPI-4.1 3.4)."),
    define<comm_bsend>(
        "Bsend",
        "Bsend($self, buf, dest, tag=0)\n--\n\n"
        "Blocking buffered send (MPI-4.1 3.4): the engine keeps a copy of the message."),
    define<comm_isend>(
        "Isend",
        "Isend($self, buf, dest, tag=0)\n--\n\nNon-blocking standard-mode send (MPI-4.1 3.7.2)."),
    define<comm_issend>(
        "Issend",
        "Issend($self, buf, dest, tag=0)\n--\n\nNon-blocking synchronous send (MPI-4.1 3.7.2)."),
    define<comm_irsend>(
        "Irsend",
        "Irsend($self, buf, dest, tag=0)\n--\n\nNon-blocking ready-mode send (MPI-4.1 3.7.2)."),
    define<comm_ibsend>(
        "Ibsend",
        "Ibsend($self, buf, dest, tag=0)\n--\n\nNon-blocking buffered send (MPI-4.1 3.7.2)."),
    define<comm_recv>(
        "Recv",
        "Recv($self, buf, source=ANY_SOURCE, tag=ANY_TAG, status=None)\n--\n\n"
        "Blocking receive (MPI-4.1 3.2.4). Raises ERR_TRUNCATE when the message is longer than "
        "`buf`; bytes past the buffer stay untouched."),
    define<comm_irecv>("Irecv",
                       "Irecv($self, buf, source=ANY_SOURCE, tag=ANY_TAG)\n--\n\n"
                       "Non-blocking receive (MPI-4.1 3.7.2)."),
    define<comm_sendrecv>(
        "Sendrecv",
        "Sendrecv($self, sendbuf, dest, sendtag=0, recvbuf=None, source=ANY_SOURCE, "
        "recvtag=ANY_TAG, status=None)\n--\n\nSend and receive at once (MPI-4.1 3.10)."),
    {"_isendrecv", guarded_fast<comm_isendrecv>(), METH_FASTCALL | METH_KEYWORDS,
     "_isendrecv($self, sendbuf, dest, sendtag=0, recvbuf=None, source=ANY_SOURCE, "
     "recvtag=ANY_TAG)\n--\n\nThe requests of a send and a receive, started as one."},
    define<comm_probe>("Probe",
                       "Probe($self, source=ANY_SOURCE, tag=ANY_TAG, status=None)\n--\n\n"
                       "Wait for a message without receiving it (MPI-4.1 3.8.1)."),
    define<comm_iprobe>("Iprobe",
                        "Iprobe($self, source=ANY_SOURCE, tag=ANY_TAG, status=None)\n--\n\n"
                        "Whether a message waits (MPI-4.1 3.8.1)."),
    define<send_init>(
        "Send_init",
        "Send_init($self, buf, dest, tag=0)\n--\n\nPersistent standard send (MPI-4.1 3.9)."),
    define<ssend_init>(
        "Ssend_init",
        "Ssend_init($self, buf, dest, tag=0)\n--\n\nPersistent synchronous send (MPI-4.1 3.9)."),
    define<rsend_init>(
        "Rsend_init",
        "Rsend_init($self, buf, dest, tag=0)\n--\n\nPersistent ready send (MPI-4.1 3.9)."),
    define<bsend_init>(
        "Bsend_init",
        "Bsend_init($self, buf, dest, tag=0)\n--\n\nPersistent buffered send (MPI-4.1 3.9)."),
    define<recv_init>("Recv_init",
                      "Recv_init($self, buf, source=ANY_SOURCE, tag=ANY_TAG)\n--\n\n"
                      "Persistent receive (MPI-4.1 3.9)."),
    define<comm_send_object>("send",
                             "send($self, obj, dest, tag=0)\n--\n\n"
                             "Send an object; returns when it may be changed again."),
    define<comm_recv_object>("recv",
                             "recv($self, buf=None, source=ANY_SOURCE, tag=ANY_TAG, status=None)"
                             "\n--\n\nReceive an object; ``buf`` is deprecated, as with mpi4py."),
};

void replace_all(std::string& text, std::string_view name, int number) {
  for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at)) {
    text.replace(at, name.size(), std::to_string(number));
  }
}

// inspect.signature evaluates defaults, and knows none of MPI's names.
void tell_defaults(int any_source, int any_tag) {
  static std::deque<std::string> docs;  // as long as the definitions
  if (!docs.empty()) return;
  for (PyMethodDef& definition : definitions) {
    std::string& doc = docs.emplace_back(definition.ml_doc);
    replace_all(doc, "ANY_SOURCE", any_source);
    replace_all(doc, "ANY_TAG", any_tag);
    definition.ml_doc = doc.c_str();
  }
}

}  // namespace

bool install_methods(PyTypeObject* type, Py_ssize_t slot_offset, int any_source, int any_tag) {
  set_communicator_slot(slot_offset);
  tell_defaults(any_source, any_tag);
  for (PyMethodDef& definition : definitions) {
    PyObject* descriptor = PyDescr_NewMethod(type, &definition);
    if (descriptor == nullptr) return false;
    const int rc =
        PyObject_SetAttrString(reinterpret_cast<PyObject*>(type), definition.ml_name, descriptor);
    Py_DECREF(descriptor);
    if (rc != 0) return false;
  }
  return true;
}

}  // namespace mooncake_mpi::bindings
