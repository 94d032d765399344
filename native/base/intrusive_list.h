#pragma once

#include <cstddef>

namespace mooncake_mpi {

// A link that an object embeds to be in one list; Tag tells the lists of one object apart.
template <class Tag>
struct ListLink {
  ListLink* previous = nullptr;
  ListLink* next = nullptr;
  bool linked() const noexcept { return next != nullptr; }
};

// A circular doubly linked list of objects that derive from ListLink<Tag>: no allocation, O(1)
// removal from the middle. The list owns nothing.
template <class T, class Tag>
class IntrusiveList {
  using Link = ListLink<Tag>;

 public:
  IntrusiveList() noexcept { head_.previous = head_.next = &head_; }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;

  bool empty() const noexcept { return head_.next == &head_; }
  T* front() const noexcept { return empty() ? nullptr : static_cast<T*>(head_.next); }

  void push_back(T& object) noexcept {
    Link& link = object;
    link.previous = head_.previous;
    link.next = &head_;
    head_.previous->next = &link;
    head_.previous = &link;
  }

  static void remove(T& object) noexcept {
    Link& link = object;
    link.previous->next = link.next;
    link.next->previous = link.previous;
    link.previous = link.next = nullptr;
  }

  T* pop_front() noexcept {
    T* object = front();
    if (object != nullptr) remove(*object);
    return object;
  }

  // `visit` may remove the object that it is given, and no other.
  template <class Visit>
  void for_each(Visit&& visit) {
    for (Link* link = head_.next; link != &head_;) {
      Link* next = link->next;
      visit(static_cast<T&>(*link));
      link = next;
    }
  }

  // Until `visit` says false.
  template <class Visit>
  void for_each_while(Visit&& visit) {
    for (Link* link = head_.next; link != &head_;) {
      Link* next = link->next;
      if (!visit(static_cast<T&>(*link))) return;
      link = next;
    }
  }

 private:
  Link head_;
};

}  // namespace mooncake_mpi
