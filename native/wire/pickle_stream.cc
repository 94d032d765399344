// Pickle streams read opcode by opcode, to put buffers in and to find them. Any thread; takes no
// lock.
#include "wire/pickle_stream.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace mooncake_mpi::wire {
namespace pickle {
namespace {

// Opcodes of pickletools.
enum Opcode : std::uint8_t {
  kNone = 'N',
  kPop = '0',
  kStop = '.',
  kShortBinBytes = 'C',
  kBinBytes = 'B',
  kBinBytes8 = 0x8e,
  kProto = 0x80,
  kMemoize = 0x94,
  kFrame = 0x95,
  kByteArray8 = 0x96,
  kNextBuffer = 0x97,
  kReadOnlyBuffer = 0x98,
};

constexpr std::size_t kFrameHeader = 9;
constexpr std::uint64_t kApart = 64 * 1024;  // the pickler puts no longer payload into a frame
constexpr std::uint64_t kFrameMin = 4;       // nor gives one to fewer bytes

// What follows an opcode.
enum class Argument : std::uint8_t { kUnknown, kFixed, kCounted, kLines };
struct OpcodeShape {
  Argument argument = Argument::kUnknown;
  std::uint8_t bytes = 0;  // of the argument, or of its count; or lines
};

constexpr std::array<OpcodeShape, 256> make_shapes() {
  std::array<OpcodeShape, 256> shapes{};
  auto set = [&](std::string_view opcodes, Argument argument, std::uint8_t bytes) {
    for (const char opcode : opcodes)
      shapes[static_cast<std::uint8_t>(opcode)] = {argument, bytes};
  };
  set("(.012QRabdelost)}]uN\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98",
      Argument::kFixed, 0);
  set("Khq\x80\x82", Argument::kFixed, 1);
  set("M\x83", Argument::kFixed, 2);
  set("Jjr\x84", Argument::kFixed, 4);
  set("G\x95", Argument::kFixed, 8);
  set("UC\x8c\x8a", Argument::kCounted, 1);
  set("TXB\x8b", Argument::kCounted, 4);
  set("\x8d\x8e\x96", Argument::kCounted, 8);
  set("ILSVFPgp", Argument::kLines, 1);
  set("ci", Argument::kLines, 2);
  return shapes;
}
constexpr std::array<OpcodeShape, 256> kShapes = make_shapes();

std::uint64_t number(const char* at, std::size_t bytes) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i)
    value |= std::uint64_t{static_cast<std::uint8_t>(at[i])} << 8 * i;
  return value;
}

void append_number(std::string& out, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i)
    out.push_back(static_cast<char>(value >> 8 * i));
}

// One opcode with its argument.
struct OpcodeStep {
  std::uint8_t opcode = 0;
  std::size_t begin = 0;
  std::size_t argument = 0;  // where it begins, behind its count if it has one
  std::size_t end = 0;
};

// Walks over opcodes. Of a frame, which only says how far the next opcodes reach, the header.
class OpcodeWalk {
 public:
  explicit OpcodeWalk(std::string_view stream) noexcept : stream_(stream) {}

  // False at the end, and where there is no whole opcode.
  bool next(OpcodeStep& step) noexcept {
    if (at_ >= stream_.size()) return false;
    step.begin = at_;
    step.opcode = static_cast<std::uint8_t>(stream_[at_]);
    step.argument = at_ + 1;
    const OpcodeShape shape = kShapes[step.opcode];
    const std::size_t left = stream_.size() - step.argument;
    switch (shape.argument) {
      case Argument::kUnknown:
        return false;
      case Argument::kFixed:
        if (shape.bytes > left) return false;
        step.end = step.argument + shape.bytes;
        break;
      case Argument::kCounted: {
        if (shape.bytes > left) return false;
        const std::uint64_t count = number(stream_.data() + step.argument, shape.bytes);
        step.argument += shape.bytes;
        if (count > left - shape.bytes) return false;
        step.end = step.argument + static_cast<std::size_t>(count);
        break;
      }
      case Argument::kLines:
        step.end = step.argument;
        for (int line = 0; line < shape.bytes; ++line) {
          const std::size_t newline = stream_.find('\n', step.end);
          if (newline == std::string_view::npos) return false;
          step.end = newline + 1;
        }
        break;
    }
    at_ = step.end;
    return true;
  }

  bool skip(std::uint64_t bytes) noexcept {
    if (bytes > stream_.size() - at_) return false;
    at_ += static_cast<std::size_t>(bytes);
    return true;
  }

 private:
  std::string_view stream_;
  std::size_t at_ = 0;
};

bool begins_like_a_pickle(std::string_view stream) noexcept {
  return stream.size() > 2 && static_cast<std::uint8_t>(stream[0]) == kProto;
}

// A buffer beside a stream, or the header of a frame.
struct StreamPlace {
  std::size_t begin;
  std::size_t end;
  bool frame;
  bool read_only;
};

struct StreamLayout {
  std::vector<StreamPlace> places;
  std::size_t buffers = 0;
};

std::optional<StreamLayout> lay_out(std::string_view stream) {
  if (!begins_like_a_pickle(stream)) return std::nullopt;
  StreamLayout layout;
  OpcodeWalk walk(stream);
  OpcodeStep step;
  std::uint8_t last = 0;
  while (walk.next(step)) {
    if (step.opcode == kFrame) {
      layout.places.push_back({step.begin, step.end, true, false});
    } else if (step.opcode == kNextBuffer) {
      layout.places.push_back({step.begin, step.end, false, false});
      ++layout.buffers;
    } else if (step.opcode == kReadOnlyBuffer) {
      if (last != kNextBuffer) return std::nullopt;
      layout.places.back().end = step.end;
      layout.places.back().read_only = true;
    }
    last = step.opcode;
    if (last == kStop) break;
  }
  if (last != kStop || step.end != stream.size()) return std::nullopt;
  return layout;
}

// Headers of frames whose opcodes stay together are kept.
void drop_frames_with_buffers(std::string_view stream, std::vector<StreamPlace>& places) {
  std::vector<StreamPlace> kept;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (places[i].frame) {
      const std::uint64_t reach = number(stream.data() + places[i].begin + 1, 8);
      const std::uint64_t end = places[i].end + std::min<std::uint64_t>(reach, stream.size());
      const bool whole = i + 1 == places.size() || places[i + 1].begin >= end;
      if (whole) continue;
    }
    kept.push_back(places[i]);
  }
  places = std::move(kept);
}

// The opcode and the length of what holds the bytes of a buffer.
std::size_t header_bytes(std::uint64_t bytes, bool read_only) noexcept {
  if (!read_only) return 9;
  if (bytes <= 0xff) return 2;
  return bytes <= 0xffff'ffff ? 5 : 9;
}

void append_header(std::string& out, std::uint64_t bytes, bool read_only) {
  const std::size_t length = header_bytes(bytes, read_only) - 1;
  const std::uint8_t opcode = !read_only    ? kByteArray8
                              : length == 1 ? kShortBinBytes
                              : length == 4 ? kBinBytes
                                            : kBinBytes8;
  out.push_back(static_cast<char>(opcode));
  append_number(out, bytes, length);
}

// A lower bound of what the pickler makes of it, the buffers not counted.
std::uint64_t in_band_bytes(std::string_view stream, std::span<const StreamPlace> all,
                            std::span<const std::uint64_t> sizes) {
  constexpr std::uint64_t kProtoBytes = 2;
  std::uint64_t total = kProtoBytes;
  std::uint64_t frame = 0;  // opcodes since the last payload that stands apart
  auto end_frame = [&] {
    total += frame + (frame >= kFrameMin ? kFrameHeader : 0);
    frame = 0;
  };
  std::size_t at = kProtoBytes;
  std::size_t next = 0;
  for (const StreamPlace& place : all) {
    frame += place.begin - at;
    at = place.end;
    if (place.frame) continue;
    const std::uint64_t bytes = sizes[next++];
    const std::size_t header = header_bytes(bytes, place.read_only);
    if (bytes >= kApart) {
      end_frame();
      total += header;
    } else {
      frame += header;
    }
    ++frame;  // it is memoized
  }
  frame += stream.size() - at;
  end_frame();
  return total;
}

// None and away with it, or bytes and away with them: nothing, and what no pickler makes.
void append_mark(std::string& out, std::size_t length) {
  if (length == 2) {
    out.push_back(static_cast<char>(kNone));
  } else {
    out.push_back(static_cast<char>(kShortBinBytes));
    append_number(out, length - 3, 1);
    out.append(length - 3, '\0');
  }
  out.push_back(static_cast<char>(kPop));
}

constexpr std::size_t kShortestMark = 2;

// Of a mark behind which a header of `header` bytes ends at a multiple of `alignment`.
std::size_t mark_bytes(std::uint64_t at, std::size_t header, std::size_t alignment) noexcept {
  const std::size_t over = static_cast<std::size_t>((at + kShortestMark + header) % alignment);
  return kShortestMark + (alignment - over) % alignment;
}

bool is_mark(std::string_view message, const OpcodeStep& pushed) noexcept {
  if (pushed.opcode == kNone) return true;
  if (pushed.opcode != kShortBinBytes) return false;
  return std::all_of(message.begin() + static_cast<std::ptrdiff_t>(pushed.argument),
                     message.begin() + static_cast<std::ptrdiff_t>(pushed.end),
                     [](char byte) { return byte == '\0'; });
}

bool holds_bytes(std::uint8_t opcode) noexcept {
  return opcode == kByteArray8 || opcode == kShortBinBytes || opcode == kBinBytes ||
         opcode == kBinBytes8;
}

}  // namespace
}  // namespace pickle

std::optional<std::vector<std::string>> put_buffers_in(std::string_view stream,
                                                       std::span<const std::uint64_t> sizes) {
  using namespace pickle;
  std::optional<StreamLayout> layout = lay_out(stream);
  if (!layout || layout->buffers != sizes.size()) return std::nullopt;
  const std::uint64_t allowed = in_band_bytes(stream, layout->places, sizes);
  std::vector<StreamPlace>& places = layout->places;
  const std::vector<StreamPlace> all = places;
  drop_frames_with_buffers(stream, places);

  std::uint64_t used = stream.size();
  std::size_t buffer = 0;
  for (const StreamPlace& place : places) {
    used -= place.end - place.begin;
    if (!place.frame) used += kShortestMark + header_bytes(sizes[buffer++], place.read_only);
  }
  if (used > allowed) return std::nullopt;
  std::uint64_t spare = allowed - used;

  std::vector<std::string> glue(1);
  std::uint64_t before = 0;  // bytes of the message before the glue that is being made
  std::size_t at = 0;
  buffer = 0;
  for (const StreamPlace& place : places) {
    glue.back().append(stream.substr(at, place.begin - at));
    at = place.end;
    if (place.frame) continue;
    const std::uint64_t bytes = sizes[buffer++];
    const std::size_t header = header_bytes(bytes, place.read_only);
    std::size_t mark = kShortestMark;
    for (const std::size_t alignment : {std::size_t{16}, std::size_t{8}}) {
      const std::size_t aligned = mark_bytes(before + glue.back().size(), header, alignment);
      if (aligned - kShortestMark <= spare) {
        mark = aligned;
        break;
      }
    }
    spare -= mark - kShortestMark;
    append_mark(glue.back(), mark);
    append_header(glue.back(), bytes, place.read_only);
    before += glue.back().size() + bytes;
    glue.emplace_back();
  }
  glue.back().append(stream.substr(at));
  return glue;
}

std::vector<PickledBuffer> find_buffers(std::string_view message) {
  using namespace pickle;
  if (!begins_like_a_pickle(message)) return {};
  std::vector<PickledBuffer> found;
  OpcodeWalk walk(message);
  OpcodeStep step;
  OpcodeStep last;
  OpcodeStep before_last;
  while (walk.next(step)) {
    if (step.opcode == kFrame) {  // no buffer is marked in a frame
      const std::uint64_t reach = number(message.data() + step.argument, 8);
      if (!walk.skip(reach)) return {};
      step.end += static_cast<std::size_t>(reach);
    }
    if (step.end == message.size()) {
      return message.back() == kStop ? found : std::vector<PickledBuffer>{};
    }
    if (step.opcode == kStop) return {};
    if (holds_bytes(step.opcode) && last.opcode == kPop && is_mark(message, before_last)) {
      found.push_back(
          {before_last.begin, step.argument, step.end - step.argument, step.opcode != kByteArray8});
      step = {};  // what was taken marks nothing
      last = {};
    }
    before_last = last;
    last = step;
  }
  return {};
}

std::string take_buffers_out(std::string_view message, std::span<const PickledBuffer> buffers) {
  using namespace pickle;
  std::string stream;
  std::size_t at = 0;
  for (const PickledBuffer& buffer : buffers) {
    stream.append(message.substr(at, buffer.begin - at));
    stream.push_back(static_cast<char>(kNextBuffer));
    if (buffer.read_only) stream.push_back(static_cast<char>(kReadOnlyBuffer));
    at = buffer.end();
  }
  return stream.append(message.substr(at));
}

}  // namespace mooncake_mpi::wire
