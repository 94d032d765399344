// What is used of libibverbs, version 1 of its ABI, as its manual pages document it
// (ibv_create_qp(3), ibv_modify_qp(3), ibv_post_send(3), ibv_poll_cq(3) ...): so its header is not
// needed to build the lane. verbs_abi_test.cc compares all of it with the header where that is
// installed.
//
// Structures of the library's own objects end where nothing behind is read here. Their first
// fields, with the table of a context's functions, are part of the ABI: programs have its inline
// functions compiled in.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mooncake_mpi::verbs_driver {

enum ibv_access_flags : unsigned {
  IBV_ACCESS_LOCAL_WRITE = 1,
  IBV_ACCESS_REMOTE_WRITE = 2,
  IBV_ACCESS_REMOTE_READ = 4,
};

enum ibv_mtu : unsigned {
  IBV_MTU_256 = 1,
  IBV_MTU_512,
  IBV_MTU_1024,
  IBV_MTU_2048,
  IBV_MTU_4096,
};

enum ibv_port_state : unsigned {
  IBV_PORT_DOWN = 1,
  IBV_PORT_INIT,
  IBV_PORT_ARMED,
  IBV_PORT_ACTIVE,
  IBV_PORT_ACTIVE_DEFER,
};

inline constexpr std::uint8_t IBV_LINK_LAYER_ETHERNET = 2;

enum ibv_event_type : unsigned {
  IBV_EVENT_DEVICE_FATAL = 8,
  IBV_EVENT_PORT_ACTIVE,
  IBV_EVENT_PORT_ERR,
};

enum ibv_qp_type : unsigned { IBV_QPT_RC = 2, IBV_QPT_UD = 4 };

enum ibv_qp_state : unsigned {
  IBV_QPS_INIT = 1,
  IBV_QPS_RTR,
  IBV_QPS_RTS,
  IBV_QPS_ERR = 6,
};

enum ibv_qp_attr_mask : unsigned {
  IBV_QP_STATE = 1u << 0,
  IBV_QP_ACCESS_FLAGS = 1u << 3,
  IBV_QP_PKEY_INDEX = 1u << 4,
  IBV_QP_PORT = 1u << 5,
  IBV_QP_QKEY = 1u << 6,
  IBV_QP_AV = 1u << 7,
  IBV_QP_PATH_MTU = 1u << 8,
  IBV_QP_TIMEOUT = 1u << 9,
  IBV_QP_RETRY_CNT = 1u << 10,
  IBV_QP_RNR_RETRY = 1u << 11,
  IBV_QP_RQ_PSN = 1u << 12,
  IBV_QP_MAX_QP_RD_ATOMIC = 1u << 13,
  IBV_QP_MIN_RNR_TIMER = 1u << 15,
  IBV_QP_SQ_PSN = 1u << 16,
  IBV_QP_MAX_DEST_RD_ATOMIC = 1u << 17,
  IBV_QP_DEST_QPN = 1u << 20,
};

enum ibv_wr_opcode : unsigned {
  IBV_WR_RDMA_WRITE = 0,
  IBV_WR_SEND = 2,
  IBV_WR_RDMA_READ = 4,
};

enum ibv_send_flags : unsigned { IBV_SEND_SIGNALED = 2, IBV_SEND_INLINE = 8 };

enum ibv_wc_status : unsigned {
  IBV_WC_SUCCESS = 0,
  IBV_WC_LOC_LEN_ERR = 1,
  IBV_WC_LOC_QP_OP_ERR = 2,
  IBV_WC_LOC_PROT_ERR = 4,
  IBV_WC_WR_FLUSH_ERR = 5,
  IBV_WC_REM_INV_REQ_ERR = 9,
  IBV_WC_REM_ACCESS_ERR = 10,
  IBV_WC_REM_OP_ERR = 11,
  IBV_WC_RETRY_EXC_ERR = 12,
  IBV_WC_RNR_RETRY_EXC_ERR = 13,
};

// An opcode of a receive has this bit.
inline constexpr unsigned IBV_WC_RECV = 1u << 7;

union ibv_gid {
  std::uint8_t raw[16];
  std::uint64_t halves[2];  // for its alignment
};

struct ibv_context;
struct ibv_device;
struct ibv_pd;
struct ibv_ah;
struct ibv_cq;
struct ibv_srq;
struct ibv_qp;

struct ibv_device_attr {
  char fw_ver[64];
  std::uint64_t node_guid;
  std::uint64_t sys_image_guid;
  std::uint64_t max_mr_size;
  std::uint64_t page_size_cap;
  std::uint32_t vendor_id;
  std::uint32_t vendor_part_id;
  std::uint32_t hw_ver;
  int max_qp;
  int max_qp_wr;
  unsigned device_cap_flags;
  int max_sge;
  int max_sge_rd;
  int max_cq;
  int max_cqe;
  int max_mr;
  int max_pd;
  int max_qp_rd_atom;
  int max_ee_rd_atom;
  int max_res_rd_atom;
  int max_qp_init_rd_atom;
  int max_ee_init_rd_atom;
  unsigned atomic_cap;
  int max_ee;
  int max_rdd;
  int max_mw;
  int max_raw_ipv6_qp;
  int max_raw_ethy_qp;
  int max_mcast_grp;
  int max_mcast_qp_attach;
  int max_total_mcast_qp_attach;
  int max_ah;
  int max_fmr;
  int max_map_per_fmr;
  int max_srq;
  int max_srq_wr;
  int max_srq_sge;
  std::uint16_t max_pkeys;
  std::uint8_t local_ca_ack_delay;
  std::uint8_t phys_port_cnt;
};

struct ibv_port_attr {
  ibv_port_state state;
  ibv_mtu max_mtu;
  ibv_mtu active_mtu;
  int gid_tbl_len;
  std::uint32_t port_cap_flags;
  std::uint32_t max_msg_sz;
  std::uint32_t bad_pkey_cntr;
  std::uint32_t qkey_viol_cntr;
  std::uint16_t pkey_tbl_len;
  std::uint16_t lid;
  std::uint16_t sm_lid;
  std::uint8_t lmc;
  std::uint8_t max_vl_num;
  std::uint8_t sm_sl;
  std::uint8_t subnet_timeout;
  std::uint8_t init_type_reply;
  std::uint8_t active_width;
  std::uint8_t active_speed;
  std::uint8_t phys_state;
  std::uint8_t link_layer;
  std::uint8_t flags;
  std::uint16_t port_cap_flags2;
};

struct ibv_async_event {
  union {
    void* object;
    int port_num;
  } element;
  ibv_event_type event_type;
};

struct ibv_mr {
  ibv_context* context;
  ibv_pd* pd;
  void* addr;
  std::size_t length;
  std::uint32_t handle;
  std::uint32_t lkey;
  std::uint32_t rkey;
};

struct ibv_comp_channel {
  ibv_context* context;
  int fd;
};

struct ibv_global_route {
  ibv_gid dgid;
  std::uint32_t flow_label;
  std::uint8_t sgid_index;
  std::uint8_t hop_limit;
  std::uint8_t traffic_class;
};

struct ibv_ah_attr {
  ibv_global_route grh;
  std::uint16_t dlid;
  std::uint8_t sl;
  std::uint8_t src_path_bits;
  std::uint8_t static_rate;
  std::uint8_t is_global;
  std::uint8_t port_num;
};

struct ibv_srq_attr {
  std::uint32_t max_wr;
  std::uint32_t max_sge;
  std::uint32_t srq_limit;
};

struct ibv_srq_init_attr {
  void* srq_context;
  ibv_srq_attr attr;
};

struct ibv_qp_cap {
  std::uint32_t max_send_wr;
  std::uint32_t max_recv_wr;
  std::uint32_t max_send_sge;
  std::uint32_t max_recv_sge;
  std::uint32_t max_inline_data;
};

struct ibv_qp_init_attr {
  void* qp_context;
  ibv_cq* send_cq;
  ibv_cq* recv_cq;
  ibv_srq* srq;
  ibv_qp_cap cap;
  ibv_qp_type qp_type;
  int sq_sig_all;
};

struct ibv_qp_attr {
  ibv_qp_state qp_state;
  ibv_qp_state cur_qp_state;
  ibv_mtu path_mtu;
  unsigned path_mig_state;
  std::uint32_t qkey;
  std::uint32_t rq_psn;
  std::uint32_t sq_psn;
  std::uint32_t dest_qp_num;
  unsigned qp_access_flags;
  ibv_qp_cap cap;
  ibv_ah_attr ah_attr;
  ibv_ah_attr alt_ah_attr;
  std::uint16_t pkey_index;
  std::uint16_t alt_pkey_index;
  std::uint8_t en_sqd_async_notify;
  std::uint8_t sq_draining;
  std::uint8_t max_rd_atomic;
  std::uint8_t max_dest_rd_atomic;
  std::uint8_t min_rnr_timer;
  std::uint8_t port_num;
  std::uint8_t timeout;
  std::uint8_t retry_cnt;
  std::uint8_t rnr_retry;
  std::uint8_t alt_port_num;
  std::uint8_t alt_timeout;
  std::uint32_t rate_limit;
};

struct ibv_sge {
  std::uint64_t addr;
  std::uint32_t length;
  std::uint32_t lkey;
};

struct ibv_send_wr {
  std::uint64_t wr_id;
  ibv_send_wr* next;
  ibv_sge* sg_list;
  int num_sge;
  ibv_wr_opcode opcode;
  unsigned send_flags;
  std::uint32_t imm_data;
  union {
    struct {
      std::uint64_t remote_addr;
      std::uint32_t rkey;
    } rdma;
    struct {
      ibv_ah* ah;
      std::uint32_t remote_qpn;
      std::uint32_t remote_qkey;
    } ud;
    std::uint64_t words[4];  // of atomic operations, the longest member
  } wr;
  std::uint32_t remote_srqn;
  std::uint64_t more[6];  // of memory windows and segmentation
};

struct ibv_recv_wr {
  std::uint64_t wr_id;
  ibv_recv_wr* next;
  ibv_sge* sg_list;
  int num_sge;
};

struct ibv_wc {
  std::uint64_t wr_id;
  ibv_wc_status status;
  unsigned opcode;
  std::uint32_t vendor_err;
  std::uint32_t byte_len;
  std::uint32_t imm_data;
  std::uint32_t qp_num;
  std::uint32_t src_qp;
  unsigned wc_flags;
  std::uint16_t pkey_index;
  std::uint16_t slid;
  std::uint8_t sl;
  std::uint8_t dlid_path_bits;
};

// The functions of a device's own library; the empty places are of calls that libibverbs exports.
struct ibv_context_ops {
  void* before_poll[11];
  int (*poll_cq)(ibv_cq*, int, ibv_wc*);
  int (*req_notify_cq)(ibv_cq*, int);
  void* before_srq[7];
  int (*post_srq_recv)(ibv_srq*, ibv_recv_wr*, ibv_recv_wr**);
  void* before_post[4];
  int (*post_send)(ibv_qp*, ibv_send_wr*, ibv_send_wr**);
  int (*post_recv)(ibv_qp*, ibv_recv_wr*, ibv_recv_wr**);
  void* behind[5];
};

struct ibv_context {
  ibv_device* device;
  ibv_context_ops ops;
  int cmd_fd;
  int async_fd;
};

struct ibv_cq {
  ibv_context* context;
  ibv_comp_channel* channel;
  void* cq_context;
};

struct ibv_srq {
  ibv_context* context;
};

struct ibv_qp {
  ibv_context* context;
  void* qp_context;
  ibv_pd* pd;
  ibv_cq* send_cq;
  ibv_cq* recv_cq;
  ibv_srq* srq;
  std::uint32_t handle;
  std::uint32_t qp_num;
};

}  // namespace mooncake_mpi::verbs_driver
