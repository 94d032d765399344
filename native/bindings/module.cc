#include "bindings/module.h"

#include "bindings/owned_buffer.h"
#include "bindings/request_type.h"
#include "bindings/runtime.h"
#include "engine/engine.h"

namespace nb = nanobind;

namespace mooncake_mpi::bindings {
namespace {

void define_enums(nb::module_& m) {
  nb::enum_<SendMode>(m, "SendMode", "How a send ends.")
      .value("STANDARD", SendMode::kStandard)
      .value("SYNCHRONOUS", SendMode::kSynchronous)
      .value("READY", SendMode::kReady)
      .value("BUFFERED", SendMode::kBuffered);
  nb::enum_<MatchChannel>(m, "MatchChannel",
                          "The matching spaces of a communicator: messages of different channels "
                          "never match each other.")
      .value("MESSAGES", MatchChannel::kMessages)
      .value("PARTITION_DATA", MatchChannel::kPartitionData)
      .value("PARTITION_SETUP", MatchChannel::kPartitionSetup)
      .value("AGREEMENTS", MatchChannel::kAgreements)
      .value("OBJECT_ARRAYS", MatchChannel::kObjectArrays);
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The point-to-point engine of mooncake_mpi.";
  nb::set_leak_warnings(false);  // requests and communicators may outlive the interpreter's end

  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const EngineFailure& failure) {
      raise_error(failure.error(), failure.what());
    }
  });
  define_enums(m);
  define_communicator(m);
  m.attr("Request") = nb::steal(create_request_type());
  m.attr("OwnedBuffer") = nb::steal(create_owned_buffer_type());

  define_lifecycle(m);
  define_hooks(m);
  define_layouts(m);
  define_sends(m);
  define_receives(m);
  define_batch(m);
  define_objects(m);
  define_matched_messages(m);
  define_requests(m);
  define_library_callbacks(m);
  define_pickle_buffers(m);
  define_inspection(m);
  define_lane_inspection(m);
  define_transfers(m);
  define_simulation(m);
  define_shared_memory(m);
  define_stream_order(m);
  define_stream_waits(m);
  define_gpu_rows(m);
  define_device_array(m);
  define_numpy_handler(m);
}

}  // namespace mooncake_mpi::bindings
