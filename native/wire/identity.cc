#include "wire/identity.h"

namespace mooncake_mpi::wire {

Key pair_key(const Identity& one, const Identity& other, std::string_view purpose) noexcept {
  const Identity& first = one.uid < other.uid ? one : other;
  const Identity& second = &first == &one ? other : one;
  constexpr std::byte kFirstBlock[1] = {std::byte{1}};
  Key extracted =
      hmac_sha256(bytes_of("mooncake_mpi pair of processes"), {first.secret, second.secret});
  const Key key = hmac_sha256(extracted, {bytes_of(purpose), first.uid, second.uid, kFirstBlock});
  wipe(extracted);
  return key;
}

}  // namespace mooncake_mpi::wire
