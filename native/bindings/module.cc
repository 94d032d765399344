#include "bindings/module.h"

#include "bindings/owned_buffer.h"
#include "bindings/request_type.h"

namespace nb = nanobind;

namespace mooncake_mpi::bindings {

NB_MODULE(_native, m) {
  m.doc() = "The point-to-point engine of mooncake_mpi.";
  nb::set_leak_warnings(false);  // requests and communicators may outlive the interpreter's end

  define_communicator(m);
  m.attr("Request") = nb::steal(create_request_type());
  m.attr("OwnedBuffer") = nb::steal(create_owned_buffer_type());

  define_lifecycle(m);
  define_hooks(m);
  define_layouts(m);
  define_sends(m);
  define_receives(m);
  define_matched_messages(m);
  define_requests(m);
  define_pickle_buffers(m);
  define_inspection(m);
  define_lane_inspection(m);
  define_shared_memory(m);
  define_numpy_handler(m);
}

}  // namespace mooncake_mpi::bindings
