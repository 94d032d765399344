#include "wire/cuda_ipc.h"

#include "wire/layout.h"

namespace mooncake_mpi::wire {
namespace {

template <class Layout>
std::optional<Layout> read_note(std::span<const std::byte> bytes) {
  std::optional<Layout> layout = read_layout<Layout>(bytes);
  if (layout && layout->kind != Layout::kKind) layout.reset();
  return layout;
}

}  // namespace

bool is_on_device(std::span<const std::byte> key) {
  return read_note<OnDevice>(key).has_value();
}

std::optional<DeviceMemory> decode_device_memory(std::span<const std::byte> note) {
  const auto memory = read_note<DeviceMemory>(note);
  const bool sane = memory && memory->reserved == 0 && memory->bytes != 0 &&
                    memory->bytes <= UINT64_MAX - memory->base;
  return sane ? memory : std::nullopt;
}

std::optional<Push> decode_push(std::span<const std::byte> note) {
  const auto push = read_note<Push>(note);
  const bool sane =
      push && push->reserved == 0 && push->length != 0 && push->length <= UINT64_MAX - push->offset;
  return sane ? push : std::nullopt;
}

std::optional<Pushed> decode_pushed(std::span<const std::byte> note) {
  const auto pushed = read_note<Pushed>(note);
  return pushed && pushed->outcome <= Pushed::kByKernel ? pushed : std::nullopt;
}

std::optional<Pull> decode_pull(std::span<const std::byte> note) {
  const auto pull = read_note<Pull>(note);
  const bool sane =
      pull && pull->reserved == 0 && pull->length != 0 && pull->length <= UINT64_MAX - pull->offset;
  return sane ? pull : std::nullopt;
}

std::optional<Reveal> decode_reveal(std::span<const std::byte> note) {
  const auto reveal = read_note<Reveal>(note);
  const bool sane = reveal && reveal->reserved == 0 && reveal->length != 0;
  return sane ? reveal : std::nullopt;
}

}  // namespace mooncake_mpi::wire
