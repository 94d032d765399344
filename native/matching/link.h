// Intrusive circular lists: an entry is in a list by a QueueLink it inherits, a list is a QueueLink
// that stands for both ends. An entry leaves without knowing its list, so lists must not move while
// entries are in them.
#pragma once

namespace mooncake_mpi {

class QueueLink {
 public:
  QueueLink() = default;
  QueueLink(const QueueLink&) = delete;
  QueueLink& operator=(const QueueLink&) = delete;

  bool linked() const { return next_ != nullptr; }

  void unlink() {
    previous_->next_ = next_;
    next_->previous_ = previous_;
    previous_ = nullptr;
    next_ = nullptr;
  }

  // Before the list's end: `list` stands for the end.
  void append_to(QueueLink& list) {
    previous_ = list.previous_;
    next_ = &list;
    list.previous_->next_ = this;
    list.previous_ = this;
  }

  // After the list's beginning.
  void prepend_to(QueueLink& list) { append_to(*list.next_); }

  // The following three treat this link as a list.
  void make_list() { previous_ = next_ = this; }
  bool empty() const { return next_ == this; }
  QueueLink& front() const { return *next_; }

  QueueLink* next() const { return next_; }

 private:
  QueueLink* previous_ = nullptr;
  QueueLink* next_ = nullptr;
};

// Tells an entry's several links apart, and gives back the entry without pointer arithmetic.
template <class Entry, int kNumber>
class QueueHook : public QueueLink {
 public:
  static Entry& entry(QueueLink& link) {
    return static_cast<Entry&>(static_cast<QueueHook&>(link));
  }
};

}  // namespace mooncake_mpi
