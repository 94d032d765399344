// Moves a message from one GPU's memory to another's: the receiver tells the sender where its
// buffer is, once its stream has come to it, and the sender's copy engine pushes, once the sender's
// stream has; a copy engine that pulls needs twice as long for a small message. While a stream of
// the sender's process waits for a message, what its engines are given may never run: then the
// receiver's pulls. A stream that waits for the message itself, and stands ready to copy, takes it
// from the sender's memory, or brings it to the receiver's where no stream waits there. Engine lock
// held for every call; calls of the driver go through the copy queue.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "memory/cuda/device_end.h"
#include "memory/cuda/gpu_memory.h"
#include "transport/cuda_ipc/cuda_ipc_transport.h"
#include "transport/cuda_ipc/mappings.h"
#include "transport/mover.h"
#include "wire/cuda_ipc.h"

namespace mooncake_mpi::cuda_ipc {

class CudaMover final : public Mover {
 public:
  CudaMover(CudaIpcTransport& transport, Peer& peer, bool is_self);
  ~CudaMover() override;
  CudaMover(const CudaMover&) = delete;
  CudaMover& operator=(const CudaMover&) = delete;

  wire::LaneId lane() const noexcept override { return CudaIpcTransport::kLane; }
  TransferPath path() const noexcept override { return TransferPath::kPush; }
  Answer expose(const Buffer& buffer, Access access, Exposure& exposure) noexcept override;
  bool start_read(const Move& into, Bytes key, PacketSink& sink) override;
  bool on_note(const Move& local, Bytes note, PacketSink& sink) override;
  bool redirect(std::uint64_t id, Sink& sink) noexcept override;
  void stop(std::uint64_t id) noexcept override;
  void abandon() noexcept override;

  // Goes on with what is under way; how much there was to do.
  unsigned advance(PacketSink& sink);
  // True when nothing is, and so it is not asked again before something begins.
  bool rest() noexcept;

 private:
  // An allocation of this process as the peer may open it.
  struct Export {
    std::atomic<bool> done{false};
    bool refused = false;
    std::string refusal;  // the driver's words
    bool told = false;
    wire::DeviceMemory memory;
  };
  struct Receive {
    enum class State : std::uint8_t { kWaiting, kExporting, kAsked, kPulling };
    State state = State::kWaiting;  // for the receiver's stream
    std::uint64_t peer_id = 0;
    std::uint64_t bytes = 0;
    const cuda::DeviceEnd* end = nullptr;
    std::shared_ptr<Export> exported;
    int device = -1;                         // of the end
    std::shared_ptr<cuda::StreamWork> work;  // of a stream that takes it
    bool engines_first = false;              // or takes it where no copy engine may
    bool takes = false;                      // it was told to
    cuda_driver::DeviceAddress array = 0;    // there
    std::uint64_t opens_until_ns = 0;        // one end's memory, where a stream waits
    // One that is pulled.
    std::uint64_t offset = 0;  // in the peer's allocation
    std::shared_ptr<Mapping> mapping;
    std::shared_ptr<cuda::Copy> copy;
  };
  struct Send {
    std::uint64_t peer_id = 0;
    std::uint64_t bytes = 0;
    const cuda::DeviceEnd* end = nullptr;
    std::uint64_t offset = 0;  // in the peer's allocation
    std::uint64_t allocation = 0;
    std::uint64_t opens_until_ns = 0;  // of one whose stream waits
    std::shared_ptr<Mapping> mapping;  // nullptr within this process
    std::shared_ptr<cuda::Copy> copy;
    std::uint64_t submitted_ns = 0;  // that one
    enum class Pull : std::uint8_t { kPossible, kOffered, kRefused };
    Pull pull = Pull::kPossible;
    std::shared_ptr<Export> exported;        // to be pulled
    bool revealed = false;                   // a stream of the receiver's takes it, or none does
    std::shared_ptr<cuda::StreamWork> work;  // of a stream that waits for the message to be taken
    bool brings = false;                     // it was told to bring it
  };
  struct Over {
    std::uint64_t id;
    bool failed;
  };
  enum class Step : std::uint8_t { kNotYet, kDone };  // what it waited for has come

  Step advance(std::uint64_t id, Receive& receive, PacketSink& sink);
  Step advance(std::uint64_t id, Send& send, PacketSink& sink);
  void advance_receives(PacketSink& sink);
  void advance_sends(PacketSink& sink);
  Step pull(std::uint64_t id, Receive& receive, PacketSink& sink);
  Step pull_in_stream(std::uint64_t id, Receive& receive, PacketSink& sink);
  Step bring_in_stream(std::uint64_t id, Send& send, PacketSink& sink);
  bool on_ask(const Move& local, Bytes note, PacketSink& sink);
  void end_pull(std::uint64_t id, Receive& receive, bool failed, PacketSink& sink);
  bool offer_pull(Send& send, PacketSink& sink);
  void offer_again();
  void tell_where(Send& send, PacketSink& sink);
  bool begin_pull(const Move& local, const wire::Pull& pull, PacketSink& sink);
  bool end_of_copy(const Move& local, const wire::Pushed& pushed, PacketSink& sink);
  void tell_of(Export& exported, std::uint64_t peer_id, PacketSink& sink);
  void ask(std::uint64_t id, Receive& receive, PacketSink& sink);
  std::shared_ptr<Export> export_of(const cuda_driver::Allocation& allocation);
  void submit(std::uint64_t id, Send& send, cuda_driver::DeviceAddress base);
  std::size_t begun() const noexcept;
  void finish(std::uint64_t receive_id, bool failed, PacketSink& sink);
  void finish(std::uint64_t receive_id, wire::Pushed::Outcome outcome, PacketSink& sink);
  void drop(Send& send) noexcept;
  void drop(Receive& receive) noexcept;
  void attend();

  CudaIpcTransport& transport_;
  Peer& peer_;
  const bool is_self_;
  bool busy_ = false;
  // By the operation's id; a great many may be under way.
  std::unordered_map<std::uint64_t, Receive> receives_;
  std::unordered_map<std::uint64_t, Send> sends_;
  std::vector<std::uint64_t> starting_;  // receives that have not asked yet, or that are pulled
  std::vector<std::uint64_t> sending_;   // in the order in which the receivers asked
  // Those whose copies were submitted, by device: they end in this order.
  std::map<int, std::deque<std::uint64_t>> copying_;
  std::vector<Over> over_;              // receives, yet to be told
  std::vector<std::uint64_t> stopped_;  // receives whose senders have taken their memory back
  std::map<std::uint64_t, std::shared_ptr<Export>> exports_;  // by allocation
  PeerMemory peer_memory_;
};

}  // namespace mooncake_mpi::cuda_ipc
