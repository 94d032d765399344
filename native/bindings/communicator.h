#pragma once

// A communicator's native side, how a method finds it, and the checks of ranks and tags. With the
// interpreter's lock (GIL) held.

#include <Python.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace mooncake_mpi::bindings {

// A communicator's native side: an object of this class sits in the `_communicator` slot of the
// Python communicator.
class Communicator {
 public:
  Communicator(int rank, int size, int tag_ub);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  wire::Head head() const;
  std::vector<std::byte> entry() const;
  // The entries of all members, in rank order, each of so many bytes.
  void activate(Bytes entries, std::size_t entry_bytes, std::string label = {});
  // For members of `parent`, which know each other: `ranks` are theirs there, in order (empty: all
  // of them), and number() goes to every member. join() takes all members' numbers and cannot fail.
  void inherit(const Communicator& parent, const std::vector<int>& ranks, std::string label);
  void join(const std::vector<std::uint32_t>& numbers);
  // The same, from the heads of all of the parent's processes, `ranks` there or all; false: one of
  // them cannot take part, and nothing is taken.
  bool join(Bytes heads, const std::vector<int>& ranks);
  // Duplicates for the times to come, as several are made known at once: what every member must
  // have of them (`heads`, of all members), and one after the other, the same at every member.
  // Taken with no label and without what has failed meanwhile, until begin().
  bool has_spares() const noexcept { return !spares_.empty(); }
  std::size_t spares_at_once() const noexcept { return spares_at_once_; }
  std::vector<wire::Head> make_spares();
  bool keep_spares(Bytes heads);
  std::unique_ptr<Communicator> take_spare();
  void put_back(std::unique_ptr<Communicator> spare) { spares_.push_back(std::move(spare)); }
  void begin(std::string label);
  // 0 when it was closed.
  std::uint32_t number() const noexcept { return context_ == nullptr ? 0 : context_->number; }
  // Of the context of another member, by rank; 0 of none.
  std::uint32_t number_at(int rank) const noexcept;
  // Before activate(): the communicator has fewer members than it was made for.
  void reshape(int rank, int size);
  void close();

  // The ranks that have failed, in the order of notice, and how many of them are acknowledged.
  std::tuple<std::vector<int>, std::size_t> failures() const;

  bool usable() const noexcept { return active_; }
  bool is_open() const noexcept { return active_ || failure_ != Error::kNone; }
  // A message that nobody has a request for has failed: the next call of its communicator says so.
  static void note_failure(std::uint32_t context, Error error, std::string reason);
  // Raises that, once; false where there is none.
  bool raise_failure() const;
  // In a forked child: none of them is usable any more.
  static void leave_all_behind() noexcept;
  Context& context() const noexcept { return *context_; }
  int rank() const noexcept { return rank_; }
  int size() const noexcept { return size_; }
  int tag_ub() const noexcept { return tag_ub_; }

 private:
  Context* context_ = nullptr;
  std::vector<Context::Member> inherited_;  // between inherit() and join()
  std::string inherited_label_;
  std::vector<std::unique_ptr<Communicator>> spares_;          // the next at the end
  std::vector<std::unique_ptr<Communicator>> unknown_spares_;  // between make and keep
  std::size_t spares_at_once_ = 1;
  int rank_;
  int size_;
  int tag_ub_;
  // Not while there is a failure to be told of, so that calls look once.
  mutable bool active_ = false;
  mutable Error failure_ = Error::kNone;
  mutable std::string failure_reason_;
};

// What waits on a communicator, or came out of it, keeps its context: another thread may free it.
class ContextHold {
 public:
  explicit ContextHold(Context& context);
  explicit ContextHold(const Communicator& communicator) : ContextHold(communicator.context()) {}
  ~ContextHold();
  ContextHold(ContextHold&& other) noexcept : context_(std::exchange(other.context_, nullptr)) {}
  ContextHold& operator=(ContextHold&&) = delete;

  Context& context() const noexcept { return *context_; }

 private:
  Context* context_;
};

// Where a communicator object of the package keeps its Communicator. Learned by install().
void set_communicator_slot(Py_ssize_t offset) noexcept;
// The object in the slot after it, which stands between the engine's requests and the program:
// callable(request, send) -> request, or None.
PyObject* giver_of(PyObject* self) noexcept;
// The communicator behind `self`, or nullptr with ERR_COMM raised.
Communicator* communicator_of(PyObject* self);
// The object in its slot, once communicator_of() found it; borrowed.
PyObject* native_side_of(PyObject* self) noexcept;
// Raises ERR_COMM with the reason.
void raise_unusable();
// The same of one that is not usable, which may be for a failure that is told of now.
void raise_unusable(const Communicator& communicator);

// Of a call that names PROC_NULL, and so asks nobody; false with ERR_REVOKED raised.
bool check_not_revoked(const Communicator& communicator);

// Those below for what is not an ordinary rank or tag.
bool check_unusual_dest(const Communicator& communicator, int dest, const char* argument);
bool check_unusual_source(const Communicator& communicator, int& source, const char* argument);
bool check_unusual_receive_tag(const Communicator& communicator, int& tag, const char* argument);

// Checks with MPI's error classes; false with the exception set. PROC_NULL passes.
inline bool check_dest(const Communicator& communicator, int dest, const char* argument = "dest") {
  if (dest >= 0 && dest < communicator.size()) [[likely]]
    return true;
  return check_unusual_dest(communicator, dest, argument);
}
bool check_send_tag(const Communicator& communicator, int tag, const char* argument = "tag");
// These map the library's wildcards onto the engine's.
inline bool check_source(const Communicator& communicator, int& source,
                         const char* argument = "source") {
  if (source >= 0 && source < communicator.size()) [[likely]]
    return true;
  return check_unusual_source(communicator, source, argument);
}
inline bool check_receive_tag(const Communicator& communicator, int& tag,
                              const char* argument = "tag") {
  if (tag >= 0 && tag <= communicator.tag_ub()) [[likely]]
    return true;
  return check_unusual_receive_tag(communicator, tag, argument);
}

}  // namespace mooncake_mpi::bindings
