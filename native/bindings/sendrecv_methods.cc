// Sendrecv and Isendrecv of a communicator: two operations that are posted as one. With the
// interpreter's lock (GIL) held, which a wait gives back while it sleeps.
#include "bindings/sendrecv_methods.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/posting.h"
#include "bindings/receive_methods.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"
#include "bindings/send_methods.h"

namespace mooncake_mpi::bindings {
namespace {

constexpr Signature<7> kSendrecv{
    "Sendrecv", {"sendbuf", "dest", "sendtag", "recvbuf", "source", "recvtag", "status"}, 2};
constexpr Signature<6> kIsendrecv{
    "Isendrecv", {"sendbuf", "dest", "sendtag", "recvbuf", "source", "recvtag"}, 2};

// A send and a receive that one call posts.
struct TwoCalls {
  ReceiveCall receive;
  BufferView send_view;
  int dest = 0;
  int send_tag = 0;
  bool sends = false;  // false: to PROC_NULL
};

// `values` as Sendrecv takes them.
bool prepare(PyObject* self, PyObject* const* values, TwoCalls& calls) {
  if (!to_int(values[1], 0, calls.dest) || !to_int(values[2], 0, calls.send_tag)) return false;
  if (!calls.send_view.acquire(values[0], false, calls.dest)) return false;
  PyObject* recvbuf = values[3] != nullptr ? values[3] : Py_None;
  if (!prepare_receive(self, recvbuf, values[4], values[5], calls.receive)) return false;
  const Communicator& communicator = *calls.receive.communicator;
  calls.sends = calls.dest != runtime().constants.proc_null;
  return check_dest(communicator, calls.dest) &&
         check_send_tag(communicator, calls.send_tag, "sendtag");
}

// The receive first: what a peer sends in answer finds it posted.
std::span<Posting> postings_of(const TwoCalls& calls, std::array<Posting, 2>& room) {
  std::size_t count = 0;
  Context& context = calls.receive.communicator->context();
  if (!calls.receive.proc_null) {
    Posting& receive = room[count++];
    receive.context = &context;
    receive.kind = Posting::Kind::kReceive;
    receive.rank = calls.receive.source;
    receive.tag = calls.receive.tag;
    receive.buffer = calls.receive.view.buffer();
  }
  if (calls.sends) {
    Posting& send = room[count++];
    send.context = &context;
    send.rank = calls.dest;
    send.tag = calls.send_tag;
    send.buffer = calls.send_view.buffer();
  }
  return std::span(room).first(count);
}

bool could_post(const Posting& posting) noexcept {
  return posting.error == Error::kNone;
}

// Where one could not be posted the other is given up. False with the exception raised.
bool check_posted(TwoCalls& calls, std::span<Posting> posted) {
  const auto failed = std::ranges::find_if_not(posted, could_post);
  if (failed == posted.end()) [[likely]]
    return true;
  for (Posting& other : posted) {
    if (other.operation == nullptr) continue;
    if (other.kind == Posting::Kind::kSend) {
      give_up_send(*other.operation, calls.send_view);
    } else {
      give_up_receive(*other.operation, calls.receive.view, MatchChannel::kMessages);
    }
  }
  raise_error(failed->error, failed->reason.c_str());
  return false;
}

}  // namespace

PyObject* comm_sendrecv(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                        PyObject* kwnames) {
  Signature<7>::Values values;
  if (!kSendrecv.parse(args, nargs, kwnames, values) || !check_status(values[6])) return nullptr;
  TwoCalls calls;
  if (!prepare(self, values.data(), calls)) return nullptr;
  std::array<Posting, 2> postings;
  std::span<Posting> posted = postings_of(calls, postings);
  post(posted);
  if (!check_posted(calls, posted)) return nullptr;
  Operation* sending = calls.sends ? posted.back().operation : nullptr;
  Operation* receiving = calls.receive.proc_null ? nullptr : posted.front().operation;
  if (sending != nullptr && !wait_send(*sending, calls.send_view)) {
    if (receiving != nullptr)
      give_up_receive(*receiving, calls.receive.view, MatchChannel::kMessages);
    return nullptr;
  }
  if (receiving != nullptr) return wait_receive(*receiving, calls.receive.view, values[6]);
  if (!fill_status(values[6], proc_null_completion())) return nullptr;
  Py_RETURN_NONE;
}

PyObject* comm_isendrecv(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                         PyObject* kwnames) {
  Signature<6>::Values values;
  if (!kIsendrecv.parse(args, nargs, kwnames, values)) return nullptr;
  TwoCalls calls;
  if (!prepare(self, values.data(), calls)) return nullptr;
  std::array<Posting, 2> postings;
  std::span<Posting> posted = postings_of(calls, postings);
  post_and_leave(posted);
  if (!check_posted(calls, posted)) return nullptr;
  PyObject* send = calls.sends
                       ? wrap_posting(posted.back(), std::move(calls.send_view))
                       : new_request(nullptr, proc_null_completion(), std::move(calls.send_view));
  PyObject* receive =
      calls.receive.proc_null
          ? new_request(nullptr, proc_null_completion(), std::move(calls.receive.view))
          : wrap_posting(posted.front(), std::move(calls.receive.view));
  PyObject* both = nullptr;
  if (send != nullptr && receive != nullptr) both = PyTuple_Pack(2, send, receive);
  Py_XDECREF(send);
  Py_XDECREF(receive);
  return both;
}

}  // namespace mooncake_mpi::bindings
