// Queue pairs and queues of libibverbs: requests, completions and states in its words. Takes no
// lock: libibverbs is thread-safe, and nothing here changes once an object is made.
#include "drivers/verbs/system_objects.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

namespace mooncake_mpi::verbs_driver {
namespace {

Status status_of(ibv_wc_status status) noexcept {
  switch (status) {
    case IBV_WC_SUCCESS:
      return Status::kSuccess;
    case IBV_WC_WR_FLUSH_ERR:
      return Status::kFlushed;
    case IBV_WC_RETRY_EXC_ERR:
      return Status::kRetryExceeded;
    case IBV_WC_RNR_RETRY_EXC_ERR:
      return Status::kReceiverNotReady;
    case IBV_WC_REM_ACCESS_ERR:
      return Status::kRemoteAccess;
    case IBV_WC_REM_OP_ERR:
    case IBV_WC_REM_INV_REQ_ERR:
      return Status::kRemoteOperation;
    case IBV_WC_LOC_PROT_ERR:
      return Status::kLocalProtection;
    case IBV_WC_LOC_QP_OP_ERR:
    case IBV_WC_LOC_LEN_ERR:
      return Status::kLocalOperation;
    default:
      return Status::kOther;
  }
}

ibv_mtu mtu_of(std::uint32_t bytes) noexcept {
  if (bytes >= 4096) return IBV_MTU_4096;
  if (bytes >= 2048) return IBV_MTU_2048;
  if (bytes >= 1024) return IBV_MTU_1024;
  return bytes >= 512 ? IBV_MTU_512 : IBV_MTU_256;
}

ibv_sge element(std::byte* address, std::uint32_t bytes, std::uint32_t key) noexcept {
  return {.addr = reinterpret_cast<std::uint64_t>(address), .length = bytes, .lkey = key};
}

ibv_recv_wr receive_into(ibv_sge& entry, std::uint64_t id) noexcept {
  ibv_recv_wr work{};
  work.wr_id = id;
  work.sg_list = &entry;
  work.num_sge = 1;
  return work;
}

}  // namespace

Failure system_failure(const char* call, int error) {
  std::string message = std::string(call) + ": " + std::strerror(error);
  if (error == ENOMEM && std::strcmp(call, "ibv_reg_mr") == 0) {
    message += " (is the memlock limit, ulimit -l, large enough?)";
  }
  return Failure{error == ENOMEM ? Error::kNoMemory : Error::kUnreachable, std::move(message)};
}

ibv_ah_attr address_vector(const Route& route) {
  ibv_ah_attr vector{};
  vector.dlid = route.lid;
  vector.sl = route.service_level;
  vector.port_num = route.port;
  if (route.global) {
    vector.is_global = 1;
    std::memcpy(vector.grh.dgid.raw, route.gid.data(), route.gid.size());
    vector.grh.sgid_index = route.gid_index;
    vector.grh.hop_limit = 64;
    vector.grh.traffic_class = route.traffic_class;
  }
  return vector;
}

int SystemCompletionQueue::poll(std::span<WorkCompletion> completions) noexcept {
  constexpr std::size_t kBatch = 16;
  ibv_wc batch[kBatch];
  const int wanted = static_cast<int>(std::min(completions.size(), kBatch));
  const int count = queue_->context->ops.poll_cq(queue_, wanted, batch);
  for (int i = 0; i < count; ++i) {
    completions[static_cast<std::size_t>(i)] = {.id = batch[i].wr_id,
                                                .status = status_of(batch[i].status),
                                                .receive = (batch[i].opcode & IBV_WC_RECV) != 0,
                                                .bytes = batch[i].byte_len,
                                                .queue_pair = batch[i].qp_num};
  }
  return count;
}

int SystemSharedReceiveQueue::post_receive(const ReceiveRequest& request) noexcept {
  ibv_sge entry = element(request.address, request.bytes, request.local_key);
  ibv_recv_wr work = receive_into(entry, request.id);
  ibv_recv_wr* bad = nullptr;
  return queue_->context->ops.post_srq_recv(queue_, &work, &bad);
}

Result<std::unique_ptr<QueuePair>> SystemQueuePair::create(const Library& library, ibv_pd* domain,
                                                           const QueuePairOptions& options) {
  const bool connected = options.kind == QueuePairOptions::Kind::kConnected;
  ibv_qp_init_attr attributes{};
  attributes.qp_type = connected ? IBV_QPT_RC : IBV_QPT_UD;
  attributes.send_cq = attributes.recv_cq =
      static_cast<SystemCompletionQueue*>(options.completions)->handle();
  if (options.receives != nullptr) {
    attributes.srq = static_cast<SystemSharedReceiveQueue*>(options.receives)->handle();
  }
  attributes.cap.max_send_wr = options.send_depth;
  attributes.cap.max_recv_wr = options.receive_depth;
  attributes.cap.max_send_sge = 1;
  attributes.cap.max_recv_sge = 1;
  // What a provider can send inline cannot be asked for: try less until it agrees.
  ibv_qp* pair = nullptr;
  for (std::uint32_t wish = options.inline_bytes;; wish /= 2) {
    attributes.cap.max_inline_data = wish;
    pair = library.create_qp(domain, &attributes);
    if (pair != nullptr || wish == 0 || (errno != EINVAL && errno != ENOMEM)) break;
  }
  if (pair == nullptr) return system_failure("ibv_create_qp", errno);
  std::unique_ptr<SystemQueuePair> made(
      new SystemQueuePair(library, pair, attributes.cap.max_inline_data));
  Result<bool> initialised = made->initialise(options);
  if (!initialised) return initialised.failure();
  return std::unique_ptr<QueuePair>(std::move(made));
}

Result<bool> SystemQueuePair::modify(ibv_qp_attr& attributes, int mask, const char* state) {
  const int error = library_.modify_qp(pair_, &attributes, mask);
  if (error == 0) return true;
  Failure failure = system_failure("ibv_modify_qp", error);
  failure.message += std::string(" (to ") + state + ")";
  return failure;
}

Result<bool> SystemQueuePair::initialise(const QueuePairOptions& options) {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.port_num = options.port;
  constexpr int kCommon = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
  if (options.kind == QueuePairOptions::Kind::kConnected) {
    attributes.qp_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
    return modify(attributes, kCommon | IBV_QP_ACCESS_FLAGS, "INIT");
  }
  attributes.qkey = options.queue_key;
  Result<bool> done = modify(attributes, kCommon | IBV_QP_QKEY, "INIT");
  if (!done) return done;
  attributes.qp_state = IBV_QPS_RTR;
  done = modify(attributes, IBV_QP_STATE, "RTR");
  if (!done) return done;
  attributes.qp_state = IBV_QPS_RTS;
  return modify(attributes, IBV_QP_STATE | IBV_QP_SQ_PSN, "RTS");
}

Result<bool> SystemQueuePair::connect(const ConnectOptions& options) {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_RTR;
  attributes.ah_attr = address_vector(options.route);
  attributes.path_mtu = mtu_of(options.mtu_bytes);
  attributes.dest_qp_num = options.remote_queue_pair;
  attributes.rq_psn = options.remote_psn;
  attributes.max_dest_rd_atomic = options.read_depth;
  attributes.min_rnr_timer = 12;  // 0.64 ms
  Result<bool> done = modify(attributes,
                             IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                                 IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER,
                             "RTR");
  if (!done) return done;
  attributes.qp_state = IBV_QPS_RTS;
  attributes.sq_psn = options.local_psn;
  attributes.timeout = options.timeout;
  attributes.retry_cnt = options.retries;
  attributes.rnr_retry = options.retries;
  attributes.max_rd_atomic = options.read_depth;
  return modify(attributes,
                IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                    IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC,
                "RTS");
}

void SystemQueuePair::fail() noexcept {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  library_.modify_qp(pair_, &attributes, IBV_QP_STATE);
}

int SystemQueuePair::post_send(const SendRequest& request) noexcept {
  ibv_sge entry = element(request.address, request.bytes, request.local_key);
  ibv_send_wr work{};
  work.wr_id = request.id;
  work.sg_list = &entry;
  work.num_sge = request.bytes != 0 ? 1 : 0;
  work.send_flags = (request.signaled ? static_cast<unsigned>(IBV_SEND_SIGNALED) : 0u) |
                    (request.inlined ? static_cast<unsigned>(IBV_SEND_INLINE) : 0u);
  switch (request.operation) {
    case SendRequest::Operation::kSend:
      work.opcode = IBV_WR_SEND;
      break;
    case SendRequest::Operation::kRead:
      work.opcode = IBV_WR_RDMA_READ;
      break;
    case SendRequest::Operation::kWrite:
      work.opcode = IBV_WR_RDMA_WRITE;
      break;
  }
  if (request.handle != nullptr) {
    work.wr.ud.ah = static_cast<SystemAddressHandle*>(request.handle)->handle();
    work.wr.ud.remote_qpn = request.remote_queue_pair;
    work.wr.ud.remote_qkey = request.queue_key;
  } else if (request.operation != SendRequest::Operation::kSend) {
    work.wr.rdma.remote_addr = request.remote_address;
    work.wr.rdma.rkey = request.remote_key;
  }
  ibv_send_wr* bad = nullptr;
  return pair_->context->ops.post_send(pair_, &work, &bad);
}

int SystemQueuePair::post_receive(const ReceiveRequest& request) noexcept {
  ibv_sge entry = element(request.address, request.bytes, request.local_key);
  ibv_recv_wr work = receive_into(entry, request.id);
  ibv_recv_wr* bad = nullptr;
  return pair_->context->ops.post_recv(pair_, &work, &bad);
}

}  // namespace mooncake_mpi::verbs_driver
