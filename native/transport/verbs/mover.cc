// Large messages: the receiver's adapters read the sender's memory, fragment by fragment over all
// paths that are ready. A fragment whose path fails is read again over another. What takes longer
// to register than to copy is read from a bounce buffer, and into one. Engine lock held for every
// call.
#include "transport/verbs/mover.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "transport/verbs/verbs_transport.h"

namespace mooncake_mpi::verbs {

using verbs_driver::SendRequest;

VerbsMover::VerbsMover(VerbsTransport& transport, VerbsChannel& channel)
    : transport_(transport), channel_(channel) {
  channel.mover_ = this;
}

VerbsMover::~VerbsMover() {
  abandon();
  channel_.mover_ = nullptr;
}

wire::LaneId VerbsMover::lane() const noexcept {
  return VerbsTransport::kLane;
}

// The adapters' requests name these buffers: with the connections they are gone.
void VerbsMover::abandon() noexcept {
  channel_.abandon();
  reads_.clear();
  for (std::uint32_t handle = 0; handle < exposed_.size(); ++handle)
    conceal(handle);
}

// What the adapters were asked for is awaited, no matter how much of the message it is not.
void VerbsMover::hurry(std::uint64_t id) noexcept {
  for (const auto& read : reads_) {
    if (read->id == id && (read->next < read->bytes || !read->again.empty())) read->failed = true;
  }
}

Answer VerbsMover::expose(const Buffer& buffer, Access access, Exposure& exposure) noexcept {
  if (access != Access::kRead || buffer.device != nullptr || buffer.address == nullptr) {
    return Answer::kNo;
  }
  if (!channel_.has_room()) return Answer::kNotNow;
  if (buffer.bytes == 0) return Answer::kNo;
  try {
    open_to_reads(buffer.address, buffer.bytes, exposure);
  } catch (const std::bad_alloc&) {  // then it is streamed
  }
  return exposure.handle != Exposure::kNone ? Answer::kYes : Answer::kNo;
}

void VerbsMover::open_to_reads(const std::byte* address, std::uint64_t bytes, Exposure& exposure) {
  if (free_exposed_.empty()) {
    exposed_.emplace_back();
    free_exposed_.reserve(exposed_.capacity());  // conceal() does not allocate
    free_exposed_.push_back(static_cast<std::uint32_t>(exposed_.size() - 1));
  }
  Exposed opened;
  wire::RemoteKeys keys;
  opened.bounce = take_bounce(address, bytes);
  keys.address = reinterpret_cast<std::uint64_t>(address);
  if (opened.bounce) {
    std::memcpy(opened.bounce.data(), address, bytes);
    keys.address = reinterpret_cast<std::uint64_t>(opened.bounce.data());
  }
  for (std::size_t i = 0; i < transport_.rails_.size(); ++i) {
    if (opened.bounce) {
      opened.regions[i] = opened.bounce.region(i);
    } else {
      // Read only, whatever the driver's interface says about const.
      auto region = transport_.rails_[i]->registrations().acquire(const_cast<std::byte*>(address),
                                                                  bytes, verbs_driver::kRemoteRead);
      // All rails or none: a reader must be able to go on over any of them.
      if (!region) {
        channel_.last_error_ = region.failure().message;
        return;
      }
      opened.regions[i] = std::move(region).value();
    }
    keys.rails |= 1u << i;
    keys.keys[i] = opened.regions[i]->remote_key();
  }
  opened.used = true;
  exposure.handle = free_exposed_.back();
  free_exposed_.pop_back();
  exposed_[exposure.handle] = std::move(opened);
  exposure.key_bytes = sizeof keys;
  std::memcpy(exposure.key.data(), &keys, sizeof keys);
}

void VerbsMover::conceal(std::uint32_t handle) noexcept {
  if (handle >= exposed_.size() || !exposed_[handle].used) return;
  exposed_[handle] = {};
  free_exposed_.push_back(handle);
}

// For a message that is copied faster than its memory is registered, unless that has been done.
BounceBuffers::Buffer VerbsMover::take_bounce(const std::byte* address,
                                              std::uint64_t bytes) noexcept {
  if (bytes > BounceBuffers::kBytes) return {};
  try {
    if (transport_.rails_.front()->registrations().cached(address, bytes) != nullptr) return {};
    return transport_.bounce_buffers_->take();
  } catch (const std::bad_alloc&) {
    return {};
  }
}

bool VerbsMover::start_read(const Move& into, Bytes key, PacketSink&) {
  const auto keys = wire::decode_keys(key, into.bytes);
  if (channel_.failed_ || !keys || into.sink != nullptr) return false;
  try {
    return begin_read(into, *keys);
  } catch (const std::bad_alloc&) {
    return false;
  }
}

bool VerbsMover::begin_read(const Move& into, const wire::RemoteKeys& keys) {
  auto read = std::make_unique<Read>();
  read->again.reserve(channel_.paths_.size() * kReadsPerPath);
  reads_.reserve(reads_.size() + 1);
  read->id = into.id;
  read->target = into.address;
  read->bounce = take_bounce(into.address, into.bytes);
  read->local = read->bounce ? read->bounce.data() : into.address;
  read->bytes = into.bytes;
  read->keys = keys;
  if (transport_.places_->several()) [[unlikely]] {
    const int node = transport_.places_->node_of(into.address);
    for (std::size_t rail = 0; rail < transport_.rails_.size(); ++rail) {
      read->distance[rail] =
          transport_.places_->distance(transport_.rails_[rail]->port().numa_node, node);
    }
  }
  bool any = false;
  for (const Path& path : channel_.paths_)
    any |= prepare(*read, path);
  if (!any) return false;
  reads_.push_back(std::move(read));
  pump_reads();
  transport_.attend_later(channel_);  // it may be over, or have failed, already
  return true;
}

// Registers the buffer with the path's rail; false where that is refused or the peer has no key.
bool VerbsMover::prepare(Read& read, const Path& path) noexcept {
  if ((read.keys.rails >> path.remote_index & 1) == 0 || read.refused[path.rail_index]) {
    return false;
  }
  auto& region = read.regions[path.rail_index];
  if (region != nullptr) return true;
  if (read.bounce) {
    region = read.bounce.region(path.rail_index);
    return true;
  }
  try {
    auto registered =
        path.rail->registrations().acquire(read.local, read.bytes, verbs_driver::kLocalWrite);
    if (registered) {
      region = std::move(registered).value();
      return true;
    }
    read.refused[path.rail_index] = true;
    channel_.last_error_ = registered.failure().message;
  } catch (const std::bad_alloc&) {
    read.refused[path.rail_index] = true;
  }
  return false;
}

// Of the ready paths with room those whose adapters are nearest to the buffer, and of these the one
// with the least under way; nullptr when all are busy. So others help when the nearest are full.
Path* VerbsMover::choose_path(Read& read) noexcept {
  Path* best = nullptr;
  bool ready = false;
  bool usable = false;
  for (Path& path : channel_.paths_) {
    if (path.state != Path::State::kReady) continue;
    ready = true;
    if (!prepare(read, path)) continue;
    usable = true;
    Connection& connection = *path.connection;
    constexpr std::uint32_t kRoomForPackets = 8;
    if (connection.reads == kReadsPerPath || connection.room() <= kRoomForPackets) continue;
    const auto rank = [&](const Path& one) {
      return std::pair(read.distance[one.rail_index], one.connection->read_bytes);
    };
    if (best == nullptr || rank(path) < rank(*best)) best = &path;
  }
  if (ready && !usable) read.failed = true;  // streaming may do
  return best;
}

void VerbsMover::pump_reads() noexcept {
  for (const auto& read : reads_) {
    while (!read->failed && (!read->again.empty() || read->next < read->bytes)) {
      Fragment fragment;
      if (!read->again.empty()) {
        fragment = read->again.back();
      } else {
        fragment = {.read = read.get(),
                    .offset = read->next,
                    .bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(
                        transport_.config_.fragment_bytes, read->bytes - read->next))};
      }
      const bool repeated = !read->again.empty();
      if (!post_fragment(fragment)) break;
      if (repeated) {
        read->again.erase(
            std::find_if(read->again.begin(), read->again.end(),
                         [&](const Fragment& other) { return other.offset == fragment.offset; }));
      } else {
        read->next += fragment.bytes;
      }
    }
  }
}

bool VerbsMover::post_fragment(const Fragment& fragment) noexcept {
  Read& read = *fragment.read;
  Path* path = choose_path(read);
  if (path == nullptr) return false;
  Connection& connection = *path->connection;
  SendRequest request;
  request.operation = SendRequest::Operation::kRead;
  request.address = read.local + fragment.offset;
  request.bytes = fragment.bytes;
  request.local_key = read.regions[path->rail_index]->local_key();
  request.remote_address = read.keys.address + fragment.offset;
  request.remote_key = read.keys.keys[path->remote_index];
  ++connection.reads;
  connection.read_bytes += fragment.bytes;
  ++read.under_way;
  if (channel_.post(connection, request, {.fragment = fragment, .sequence = 0, .packet = false},
                    true)) {
    return true;
  }
  --connection.reads;
  connection.read_bytes -= fragment.bytes;
  --read.under_way;
  return false;
}

void VerbsMover::finish_fragment(Connection& connection, Connection::Request& request,
                                 Outcome outcome) {
  const Fragment fragment = request.fragment;
  request.fragment.read = nullptr;
  --connection.reads;
  connection.read_bytes -= fragment.bytes;
  Read& read = *fragment.read;
  --read.under_way;
  if (outcome == Outcome::kDone) {
    read.done += fragment.bytes;
  } else if (outcome == Outcome::kAgain) {
    read.again.push_back(fragment);  // there is room
  } else {
    read.failed = true;
  }
}

void VerbsMover::attend(PacketSink& sink) {
  if (reads_.empty()) return;
  pump_reads();
  report_reads(sink);
}

bool VerbsMover::has_idle_reads() const noexcept {
  return std::any_of(reads_.begin(), reads_.end(),
                     [](const auto& read) { return read->under_way == 0; });
}

// Only when nothing of a read is under way does its buffer belong to the program again. A read that
// cannot be told of, for want of memory, stays.
void VerbsMover::report_reads(PacketSink& sink) {
  for (std::size_t i = 0; i < reads_.size();) {
    Read& read = *reads_[i];
    const bool done = read.done == read.bytes;
    if (read.under_way != 0 || (!done && !read.failed)) {
      ++i;
      continue;
    }
    if (done && read.bounce) std::memcpy(read.target, read.local, read.bytes);
    transport_.counters_.remote_reads += done ? 1 : 0;
    sink.on_moved(channel_.peer_, read.id, done ? Error::kNone : Error::kOther);
    reads_.erase(reads_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

}  // namespace mooncake_mpi::verbs
