#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace mooncake_mpi::verbs {

// Page-aligned memory, so that registering it pins nothing else.
class Pages {
 public:
  Pages() = default;
  explicit Pages(std::size_t bytes)
      : data_(static_cast<std::byte*>(
            ::operator new(round(bytes), std::align_val_t{kPage}, std::nothrow))),
        bytes_(data_ != nullptr ? round(bytes) : 0) {}

  std::byte* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return bytes_; }

 private:
  static constexpr std::size_t kPage = 4096;
  struct Free {
    void operator()(std::byte* data) const noexcept {
      ::operator delete(data, std::align_val_t{kPage});
    }
  };
  static constexpr std::size_t round(std::size_t bytes) {
    return (bytes + kPage - 1) / kPage * kPage;
  }

  std::unique_ptr<std::byte, Free> data_;
  std::size_t bytes_ = 0;
};

}  // namespace mooncake_mpi::verbs
