#include "drivers/verbs/library.h"

#include <dlfcn.h>

#include <string>

namespace mooncake_mpi::verbs_driver {
namespace {

template <class Function>
void find(void* handle, const char* name, Function& function, std::string& missing) {
  function = reinterpret_cast<Function>(dlsym(handle, name));
  if (function == nullptr && missing.empty()) missing = name;
}

}  // namespace

Result<const Library*> Library::load() {
  static Library library;
  static bool loaded = false;
  if (loaded) return static_cast<const Library*>(&library);
  void* handle = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = dlerror();
    return Failure{Error::kUnreachable, std::string("no libibverbs: ") +
                                            (reason != nullptr ? reason : "unknown reason")};
  }
  Library l;
  std::string missing;
  find(handle, "ibv_get_device_list", l.get_device_list, missing);
  find(handle, "ibv_free_device_list", l.free_device_list, missing);
  find(handle, "ibv_get_device_name", l.get_device_name, missing);
  find(handle, "ibv_open_device", l.open_device, missing);
  find(handle, "ibv_close_device", l.close_device, missing);
  find(handle, "ibv_query_device", l.query_device, missing);
  find(handle, "ibv_query_port", l.query_port, missing);
  find(handle, "ibv_query_gid", l.query_gid, missing);
  find(handle, "ibv_alloc_pd", l.alloc_pd, missing);
  find(handle, "ibv_dealloc_pd", l.dealloc_pd, missing);
  find(handle, "ibv_reg_mr", l.reg_mr, missing);
  find(handle, "ibv_dereg_mr", l.dereg_mr, missing);
  find(handle, "ibv_create_comp_channel", l.create_comp_channel, missing);
  find(handle, "ibv_destroy_comp_channel", l.destroy_comp_channel, missing);
  find(handle, "ibv_create_cq", l.create_cq, missing);
  find(handle, "ibv_destroy_cq", l.destroy_cq, missing);
  find(handle, "ibv_get_cq_event", l.get_cq_event, missing);
  find(handle, "ibv_ack_cq_events", l.ack_cq_events, missing);
  find(handle, "ibv_create_srq", l.create_srq, missing);
  find(handle, "ibv_destroy_srq", l.destroy_srq, missing);
  find(handle, "ibv_create_qp", l.create_qp, missing);
  find(handle, "ibv_modify_qp", l.modify_qp, missing);
  find(handle, "ibv_destroy_qp", l.destroy_qp, missing);
  find(handle, "ibv_create_ah", l.create_ah, missing);
  find(handle, "ibv_destroy_ah", l.destroy_ah, missing);
  find(handle, "ibv_get_async_event", l.get_async_event, missing);
  find(handle, "ibv_ack_async_event", l.ack_async_event, missing);
  if (!missing.empty()) {
    dlclose(handle);
    return Failure{Error::kUnreachable, "libibverbs has no " + missing};
  }
  library = l;
  loaded = true;
  return static_cast<const Library*>(&library);
}

}  // namespace mooncake_mpi::verbs_driver
