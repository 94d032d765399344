// Movers whose bytes the processor copies: by loads and stores, or through the kernel. A lane says
// how it reads and writes the peer's memory; chunks, shared jobs and fallbacks are here. Engine
// lock held for every call.
#pragma once

#include <cstdint>
#include <memory>

#include "base/intrusive_list.h"
#include "memory/region.h"
#include "memory/shared_pool.h"
#include "transport/copy/copy_job.h"
#include "transport/copy/way_choice.h"
#include "transport/mover.h"
#include "wire/copy_notes.h"

namespace mooncake_mpi {

class CopyMover;

struct CopyLimits {
  std::uint64_t shared_bytes = 32 * 1024;     // from here on both sides copy
  std::uint64_t past_caches_bytes = 8 << 20;  // from here on mapped memory is stored around them
  // Up to here a stream may be faster than the kernel, which looks up every page of the peer's, as
  // long as both sides wait for it.
  std::uint64_t stream_bytes = 2 << 20;
};

struct CopyConfig {
  CopyLimits limits;
  SharedPool* pool = nullptr;  // buffers in it are offered as memory that peers can map
  bool writable = true;        // whether peers may write memory outside of it
};

// How this process reaches bytes of a peer: not at all, through the kernel (CMA), or by loads and
// stores.
enum class Reach : std::uint8_t { kNone, kKernel, kMapped };

struct CopyTag {};

// One transfer of a CopyMover: of a receive whose bytes it reads, of a send whose bytes it writes
// alone, or of a send whose receiver shares the copying with it.
struct Copy : ListLink<CopyTag> {
  enum class Role : std::uint8_t { kRead, kWrite, kHelp };
  static constexpr std::uint32_t kNoJob = UINT32_MAX;
  CopyMover* mover = nullptr;
  Role role = Role::kRead;
  bool mapped = false;      // the peer's bytes are copied by loads and stores
  bool undecided = false;   // a stream may be better
  bool chosen = false;      // by WayChoice, which hears when it is over
  bool unreadable = false;  // the system has closed that way in the middle
  Error error = Error::kNone;
  Move move;
  RemoteMemory remote;
  std::uint64_t peer_id = 0;  // kHelp: of the peer's receive
  std::uint64_t done = 0;     // bytes, without a job
  std::uint32_t chunk_bytes = 0;
  std::uint32_t chunk_count = 0;
  std::uint32_t job = kNoJob;
  std::uint32_t generation = 0;
  std::uint32_t own_chunks = 0;  // of a shared copy, not the peer's
  std::uint64_t since_ns = 0;    // undecided

  // One that was used before. Field by field: to clear all of it takes longer than a short copy's
  // other steps together. What belongs to a job is set with it.
  void begin(CopyMover& its, Role its_role, const Move& bytes, const RemoteMemory& peers) noexcept {
    mover = &its;
    role = its_role;
    mapped = undecided = chosen = unreadable = false;
    error = Error::kNone;
    move = bytes;
    remote = peers;
    done = since_ns = 0;
    job = kNoJob;
    own_chunks = 0;
  }
};

// All copies of one lane, in the order in which they go on.
class CopyWork {
 public:
  static constexpr std::uint64_t kTurnBytes = 256 * 1024;  // then other traffic has its turn

  CopyWork(const CopyConfig& config, MoverCounters& counters) noexcept
      : config_(config), counters_(counters) {}
  ~CopyWork();
  CopyWork(const CopyWork&) = delete;
  CopyWork& operator=(const CopyWork&) = delete;

  // Goes on with them for a while; 0 when there was nothing to do.
  unsigned advance(PacketSink& sink) {
    if (under_way_ == 0) [[likely]]
      return 0;
    return advance_all(sink);
  }

 private:
  friend class CopyMover;
  using List = IntrusiveList<Copy, CopyTag>;

  unsigned advance_all(PacketSink& sink);
  void report(PacketSink& sink);
  Copy* take(CopyMover& mover, Copy::Role role, const Move& move,
             const RemoteMemory& remote) noexcept;
  [[gnu::cold, gnu::noinline]] void add_spare() noexcept;
  wire::Place place_of(const std::byte* address, std::uint64_t bytes) noexcept;
  void give_back(Copy& copy) noexcept;
  void recycle(Copy& copy) noexcept;
  void drop(const CopyMover& mover) noexcept;
  void drop_send(const CopyMover& mover, std::uint64_t id) noexcept;

  CopyConfig config_;
  MoverCounters& counters_;
  List copies_;
  List helps_;
  List finished_;  // to be reported
  List spare_;
  std::uint32_t under_way_ = 0;  // in the lists before
  std::uint32_t writes_ = 0;     // of them, of sends that write alone
  std::uint32_t next_generation_ = 1;
  SharedPool::Seen seen_;
};

class CopyMover : public Mover {
 public:
  CopyMover(CopyWork& work, Peer& peer) noexcept : work_(work), peer_(peer) {}
  ~CopyMover() override { CopyMover::abandon(); }
  CopyMover(const CopyMover&) = delete;
  CopyMover& operator=(const CopyMover&) = delete;

  TransferPath path() const noexcept final { return TransferPath::kCopy; }
  Answer expose(const Buffer& buffer, Access access, Exposure& exposure) noexcept final;
  bool is_mapped(const Buffer& buffer) noexcept override {
    return work_.place_of(buffer.address, buffer.bytes).region != 0;
  }
  bool start_read(const Move& into, Bytes key, PacketSink& sink) final;
  bool start_write(const Move& from, Bytes key, PacketSink& sink) final;
  bool on_note(const Move& local, Bytes note, PacketSink& sink) final;
  void on_streamed(PacketSink& sink) noexcept final;
  void stop(std::uint64_t id) noexcept final;
  void abandon() noexcept override;

 protected:
  // What the lane says. `past_caches`: the bytes are part of a transfer that does not fit the
  // caches. What reach() said may end between two calls; then these take another way, or fail.
  virtual Reach reach(const RemoteMemory& remote, std::uint64_t bytes) noexcept = 0;
  virtual Error read(void* local, const RemoteMemory& remote, std::size_t bytes,
                     bool past_caches) noexcept = 0;
  virtual Error write(const void* local, const RemoteMemory& remote, std::size_t bytes,
                      bool past_caches) noexcept = 0;
  // Jobs for copies shared with the peer: those of messages that come from it (ours to hand out),
  // and the peer's for messages that go to it. kNoJob / nullptr where the lane has none.
  static constexpr std::uint32_t kNoJob = Copy::kNoJob;
  virtual std::uint32_t acquire_job() noexcept { return kNoJob; }
  virtual void release_job(std::uint32_t) noexcept {}
  virtual CopyJob* own_job(std::uint32_t) noexcept { return nullptr; }
  virtual CopyJob* peer_job(std::uint32_t) noexcept { return nullptr; }
  // Wakes the peer if it sleeps.
  virtual void ring() noexcept {}
  // Whether the peer waits in a call at this moment, so that it would stream at once.
  virtual bool is_attended() noexcept { return false; }
  // What the choices of the two ends say to each other: of the end that leads, and to the one that
  // follows.
  virtual std::uint32_t leader() noexcept { return 0; }
  virtual void tell_follower(std::uint32_t /*says*/) noexcept {}

 private:
  friend class CopyWork;

  // Bytes copied now; 0: none at the moment, or none any more.
  std::uint64_t advance(Copy& copy, PacketSink& sink);
  // Apart, so that what moves a short message in mapped memory does not pay for the others.
  [[gnu::noinline]] bool decide(Copy& copy, PacketSink& sink);
  [[gnu::noinline]] void share(Copy& copy, PacketSink& sink);
  std::uint64_t read_alone(Copy& copy) noexcept;
  [[gnu::noinline]] std::uint64_t read_shared(Copy& copy) noexcept;
  [[gnu::noinline]] std::uint64_t write_alone(Copy& copy) noexcept;
  [[gnu::noinline]] std::uint64_t help(Copy& copy, PacketSink& sink);
  bool is_streamed(Reach way, std::uint64_t bytes) const noexcept;
  bool is_shareable(const Move& into) const noexcept {
    return into.sink == nullptr && into.bytes >= work_.config_.limits.shared_bytes;
  }
  bool over(const Copy& copy) noexcept;
  bool is_helpful(std::uint64_t bytes) noexcept;
  void finish(Copy& copy, PacketSink& sink) noexcept;
  [[gnu::noinline]] void finish_shared(Copy& copy) noexcept;
  [[gnu::noinline]] void learn(PacketSink& sink) noexcept;
  void read_chunks(Copy& copy, CopyJob::Claim claim) noexcept;
  Error write_chunks(Copy& copy, CopyJob::Claim claim) noexcept;
  void take_error(Copy& copy, Error error) const noexcept;
  bool past_caches(const Copy& copy) const noexcept {
    return copy.move.bytes >= work_.config_.limits.past_caches_bytes;
  }
  bool begin_help(const Move& local, Bytes note);
  bool take_back_chunks(const Move& local, Bytes note);

  CopyWork& work_;
  Peer& peer_;
  bool helped_ = true;          // the last copy that was shared with the peer
  std::uint32_t unshared_ = 0;  // copies since then
  std::uint32_t patience_ = 4;  // so many until it is asked again
  WayChoice choice_;
  std::uint32_t undecided_ = 0;  // copies
};

}  // namespace mooncake_mpi
