// drivers/verbs/abi.h says what libibverbs' own header says, compared where that is installed.
#include <gtest/gtest.h>

#include <cstddef>
#include <string>

#include "drivers/verbs/abi.h"
#include "drivers/verbs/library.h"

#if __has_include(<infiniband/verbs.h>)
#include <infiniband/verbs.h>

namespace ours = mooncake_mpi::verbs_driver;

#define SAME_VALUE(name) static_assert(static_cast<long>(ours::name) == static_cast<long>(::name))
#define SAME_SIZE(type) \
  static_assert(sizeof(ours::type) == sizeof(::type) && alignof(ours::type) == alignof(::type))
// also for the first fields of a structure that is not described to its end
#define SAME_FIELD(type, field)                                           \
  static_assert(offsetof(ours::type, field) == offsetof(::type, field) && \
                sizeof(ours::type::field) == sizeof(::type::field))

SAME_VALUE(IBV_ACCESS_LOCAL_WRITE);
SAME_VALUE(IBV_ACCESS_REMOTE_WRITE);
SAME_VALUE(IBV_ACCESS_REMOTE_READ);
SAME_VALUE(IBV_MTU_256);
SAME_VALUE(IBV_MTU_512);
SAME_VALUE(IBV_MTU_1024);
SAME_VALUE(IBV_MTU_2048);
SAME_VALUE(IBV_MTU_4096);
SAME_VALUE(IBV_PORT_DOWN);
SAME_VALUE(IBV_PORT_INIT);
SAME_VALUE(IBV_PORT_ARMED);
SAME_VALUE(IBV_PORT_ACTIVE);
SAME_VALUE(IBV_PORT_ACTIVE_DEFER);
SAME_VALUE(IBV_LINK_LAYER_ETHERNET);
SAME_VALUE(IBV_EVENT_DEVICE_FATAL);
SAME_VALUE(IBV_EVENT_PORT_ACTIVE);
SAME_VALUE(IBV_EVENT_PORT_ERR);
SAME_VALUE(IBV_QPT_RC);
SAME_VALUE(IBV_QPT_UD);
SAME_VALUE(IBV_QPS_INIT);
SAME_VALUE(IBV_QPS_RTR);
SAME_VALUE(IBV_QPS_RTS);
SAME_VALUE(IBV_QPS_ERR);
SAME_VALUE(IBV_QP_STATE);
SAME_VALUE(IBV_QP_ACCESS_FLAGS);
SAME_VALUE(IBV_QP_PKEY_INDEX);
SAME_VALUE(IBV_QP_PORT);
SAME_VALUE(IBV_QP_QKEY);
SAME_VALUE(IBV_QP_AV);
SAME_VALUE(IBV_QP_PATH_MTU);
SAME_VALUE(IBV_QP_TIMEOUT);
SAME_VALUE(IBV_QP_RETRY_CNT);
SAME_VALUE(IBV_QP_RNR_RETRY);
SAME_VALUE(IBV_QP_RQ_PSN);
SAME_VALUE(IBV_QP_MAX_QP_RD_ATOMIC);
SAME_VALUE(IBV_QP_MIN_RNR_TIMER);
SAME_VALUE(IBV_QP_SQ_PSN);
SAME_VALUE(IBV_QP_MAX_DEST_RD_ATOMIC);
SAME_VALUE(IBV_QP_DEST_QPN);
SAME_VALUE(IBV_WR_RDMA_WRITE);
SAME_VALUE(IBV_WR_SEND);
SAME_VALUE(IBV_WR_RDMA_READ);
SAME_VALUE(IBV_SEND_SIGNALED);
SAME_VALUE(IBV_SEND_INLINE);
SAME_VALUE(IBV_WC_SUCCESS);
SAME_VALUE(IBV_WC_LOC_LEN_ERR);
SAME_VALUE(IBV_WC_LOC_QP_OP_ERR);
SAME_VALUE(IBV_WC_LOC_PROT_ERR);
SAME_VALUE(IBV_WC_WR_FLUSH_ERR);
SAME_VALUE(IBV_WC_REM_INV_REQ_ERR);
SAME_VALUE(IBV_WC_REM_ACCESS_ERR);
SAME_VALUE(IBV_WC_REM_OP_ERR);
SAME_VALUE(IBV_WC_RETRY_EXC_ERR);
SAME_VALUE(IBV_WC_RNR_RETRY_EXC_ERR);
SAME_VALUE(IBV_WC_RECV);

SAME_SIZE(ibv_gid);

SAME_SIZE(ibv_device_attr);
SAME_FIELD(ibv_device_attr, max_qp_wr);
SAME_FIELD(ibv_device_attr, max_cqe);
SAME_FIELD(ibv_device_attr, max_qp_rd_atom);
SAME_FIELD(ibv_device_attr, max_qp_init_rd_atom);
SAME_FIELD(ibv_device_attr, max_srq_wr);
SAME_FIELD(ibv_device_attr, phys_port_cnt);

SAME_SIZE(ibv_port_attr);
SAME_FIELD(ibv_port_attr, state);
SAME_FIELD(ibv_port_attr, active_mtu);
SAME_FIELD(ibv_port_attr, gid_tbl_len);
SAME_FIELD(ibv_port_attr, lid);
SAME_FIELD(ibv_port_attr, link_layer);
SAME_FIELD(ibv_port_attr, flags);

SAME_SIZE(ibv_async_event);
SAME_FIELD(ibv_async_event, element.port_num);
SAME_FIELD(ibv_async_event, event_type);

SAME_SIZE(ibv_mr);
SAME_FIELD(ibv_mr, lkey);
SAME_FIELD(ibv_mr, rkey);
SAME_FIELD(ibv_comp_channel, fd);

SAME_SIZE(ibv_global_route);
SAME_FIELD(ibv_global_route, sgid_index);
SAME_FIELD(ibv_global_route, hop_limit);
SAME_FIELD(ibv_global_route, traffic_class);
SAME_SIZE(ibv_ah_attr);
SAME_FIELD(ibv_ah_attr, dlid);
SAME_FIELD(ibv_ah_attr, sl);
SAME_FIELD(ibv_ah_attr, is_global);
SAME_FIELD(ibv_ah_attr, port_num);

SAME_SIZE(ibv_srq_init_attr);
SAME_FIELD(ibv_srq_init_attr, attr.max_wr);
SAME_FIELD(ibv_srq_init_attr, attr.max_sge);
SAME_SIZE(ibv_qp_init_attr);
SAME_FIELD(ibv_qp_init_attr, send_cq);
SAME_FIELD(ibv_qp_init_attr, recv_cq);
SAME_FIELD(ibv_qp_init_attr, srq);
SAME_FIELD(ibv_qp_init_attr, cap.max_send_wr);
SAME_FIELD(ibv_qp_init_attr, cap.max_recv_wr);
SAME_FIELD(ibv_qp_init_attr, cap.max_send_sge);
SAME_FIELD(ibv_qp_init_attr, cap.max_recv_sge);
SAME_FIELD(ibv_qp_init_attr, cap.max_inline_data);
SAME_FIELD(ibv_qp_init_attr, qp_type);

SAME_SIZE(ibv_qp_attr);
SAME_FIELD(ibv_qp_attr, qp_state);
SAME_FIELD(ibv_qp_attr, path_mtu);
SAME_FIELD(ibv_qp_attr, qkey);
SAME_FIELD(ibv_qp_attr, rq_psn);
SAME_FIELD(ibv_qp_attr, sq_psn);
SAME_FIELD(ibv_qp_attr, dest_qp_num);
SAME_FIELD(ibv_qp_attr, qp_access_flags);
SAME_FIELD(ibv_qp_attr, ah_attr);
SAME_FIELD(ibv_qp_attr, max_rd_atomic);
SAME_FIELD(ibv_qp_attr, max_dest_rd_atomic);
SAME_FIELD(ibv_qp_attr, min_rnr_timer);
SAME_FIELD(ibv_qp_attr, port_num);
SAME_FIELD(ibv_qp_attr, timeout);
SAME_FIELD(ibv_qp_attr, retry_cnt);
SAME_FIELD(ibv_qp_attr, rnr_retry);

SAME_SIZE(ibv_sge);
SAME_FIELD(ibv_sge, addr);
SAME_FIELD(ibv_sge, length);
SAME_FIELD(ibv_sge, lkey);
SAME_SIZE(ibv_send_wr);
SAME_FIELD(ibv_send_wr, next);
SAME_FIELD(ibv_send_wr, sg_list);
SAME_FIELD(ibv_send_wr, num_sge);
SAME_FIELD(ibv_send_wr, opcode);
SAME_FIELD(ibv_send_wr, send_flags);
SAME_FIELD(ibv_send_wr, imm_data);
SAME_FIELD(ibv_send_wr, wr.rdma.remote_addr);
SAME_FIELD(ibv_send_wr, wr.rdma.rkey);
SAME_FIELD(ibv_send_wr, wr.ud.ah);
SAME_FIELD(ibv_send_wr, wr.ud.remote_qpn);
SAME_FIELD(ibv_send_wr, wr.ud.remote_qkey);
SAME_SIZE(ibv_recv_wr);
SAME_FIELD(ibv_recv_wr, next);
SAME_FIELD(ibv_recv_wr, sg_list);
SAME_FIELD(ibv_recv_wr, num_sge);

SAME_SIZE(ibv_wc);
SAME_FIELD(ibv_wc, wr_id);
SAME_FIELD(ibv_wc, status);
SAME_FIELD(ibv_wc, opcode);
SAME_FIELD(ibv_wc, byte_len);
SAME_FIELD(ibv_wc, qp_num);

SAME_SIZE(ibv_context_ops);
SAME_FIELD(ibv_context_ops, poll_cq);
SAME_FIELD(ibv_context_ops, req_notify_cq);
SAME_FIELD(ibv_context_ops, post_srq_recv);
SAME_FIELD(ibv_context_ops, post_send);
SAME_FIELD(ibv_context_ops, post_recv);
SAME_FIELD(ibv_context, ops);
SAME_FIELD(ibv_context, async_fd);
SAME_FIELD(ibv_cq, context);
SAME_FIELD(ibv_cq, cq_context);
SAME_FIELD(ibv_srq, context);
SAME_FIELD(ibv_qp, context);
SAME_FIELD(ibv_qp, qp_num);

#undef SAME_VALUE
#undef SAME_SIZE
#undef SAME_FIELD
#endif

namespace mooncake_mpi::verbs_driver {
namespace {

TEST(VerbsAbi, EveryFunctionIsFoundInTheLibraryOrTheLibraryIsNamed) {
  Result<const Library*> library = Library::load();
  if (library) {
    EXPECT_NE(library.value()->get_device_list, nullptr);
  } else {
    EXPECT_NE(library.failure().message.find("libibverbs"), std::string::npos);
  }
}

}  // namespace
}  // namespace mooncake_mpi::verbs_driver
