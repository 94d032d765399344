// Takes bytes as a packet or address would be taken from a peer; for the random tests and the
// fuzzer. Returns whether they were accepted. Any thread; takes no lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wire/address.h"
#include "wire/copy_notes.h"
#include "wire/header.h"
#include "wire/offers.h"
#include "wire/payload.h"
#include "wire/pickle_stream.h"
#include "wire/shm_address.h"
#include "wire/tcp.h"
#include "wire/verbs.h"

namespace mooncake_mpi::wire {

template <class Payload>
bool decodes(const Header& header, std::span<const std::byte> payload) {
  Payload out;
  return decode(header, payload, out) == Error::kNone;
}

// Every key as each lane's mover would read it.
inline bool decode_offers(std::span<const std::byte> bytes) {
  if (!are_offers(bytes)) return false;
  for (Offer offer; next_offer(bytes, offer);) {
    const auto keys = decode_keys(offer.key, 1000);
    if (keys && (keys->rails == 0 || keys->rails >> kMaxRails != 0)) std::abort();
    const auto place = decode_place(offer.key, 1000);
    if (place && place->address > UINT64_MAX - 1000) std::abort();
    const auto streams = decode_tcp_key(offer.key);
    if (streams && (streams->streams < 1 || streams->streams > kMaxTcpStreams)) std::abort();
  }
  return true;
}

// Stops the program when a header that was accepted promises bytes that are not there.
inline bool decode_packet(std::span<const std::byte> packet) {
  if (packet.size() < sizeof(Header)) return false;
  Header header;
  std::memcpy(&header, packet.data(), sizeof(Header));
  if (validate(header, packet.size()) != Error::kNone) return false;
  if (header.payload_bytes > packet.size() - sizeof(Header)) std::abort();
  const auto payload = packet.subspan(sizeof(Header), header.payload_bytes);
  switch (header.kind) {
    case Kind::kEager:
      return true;
    case Kind::kEagerSync:
      return decodes<EagerSync>(header, payload);
    case Kind::kRts:
      return decodes<Rts>(header, payload) && decode_offers(payload.subspan(sizeof(Rts)));
    case Kind::kCts:
      return decodes<Cts>(header, payload) && decode_offers(payload.subspan(sizeof(Cts)));
    case Kind::kData:
      return decodes<Data>(header, payload);
    case Kind::kFin:
      return decodes<Fin>(header, payload);
    case Kind::kAck:
      return decodes<Ack>(header, payload);
    case Kind::kNote: {
      if (!decodes<Note>(header, payload)) return false;
      const auto note = payload.subspan(sizeof(Note));
      const auto share = decode_share(note);
      if (share && share->chunk_bytes == 0) std::abort();
      if (share && decode_chunks_failed(note)) std::abort();
      const auto fetch = decode_tcp_fetch(note);
      if (fetch && (fetch->ticket == 0 || fetch->bytes == 0)) std::abort();
      return true;
    }
    case Kind::kCredit:
      return decodes<Credit>(header, payload);
  }
  std::abort();
}

// Stops the program when an accepted address does not encode to what it was read from.
inline bool decode_entry(std::span<const std::byte> entry) {
  const DecodedAddress decoded = decode_address(entry);
  if (!decoded.address) {
    if (decoded.reason == nullptr) std::abort();
    return false;
  }
  const auto again = encode(*decoded.address);
  if (again.size() > entry.size()) std::abort();
  if (std::memcmp(again.data(), entry.data(), again.size()) != 0) std::abort();
  for (const Address::Section& section : decoded.address->sections) {
    const auto rails = decode_rails(section.bytes);
    if (rails && rails->front().queue_pair == 0) std::abort();
    const auto endpoints = decode_tcp_endpoints(section.bytes);
    if (endpoints.size() > kMaxTcpEndpoints) std::abort();
    for (const TcpEndpoint& endpoint : endpoints) {
      if (endpoint.port == 0 || (endpoint.family != 4 && endpoint.family != 6)) std::abort();
    }
    const auto segment = decode_shm_address(section.bytes);
    if (segment && segment->descriptor < 0) std::abort();
  }
  return true;
}

// What a fuzzer and a peer both know, so that it gets past the first check.
inline constexpr Key kTestKey{std::byte{0x5a}, std::byte{1}};
inline constexpr Uid kTestProcess{std::byte{0xa5}, std::byte{2}};

// A datagram. Stops the program when one is accepted that promises what it does not hold.
inline bool decode_datagram(std::span<const std::byte> datagram) {
  const auto hello = decode_hello(datagram, kTestKey, kTestProcess);
  if (!hello) return false;
  if (hello_sender(datagram, kTestProcess) != hello->from) std::abort();
  if (hello->paths < 1 || hello->paths > kMaxRails || hello->credits == 0) std::abort();
  for (const PathOffer& offer : hello->offers) {
    if (offer.queue_pair >> 24 != 0 || offer.psn >> 24 != 0) std::abort();
  }
  return true;
}

// A packet of the verbs lane, and the message in it.
inline bool decode_framed(std::span<const std::byte> packet) {
  const auto head = decode_head(packet);
  if (!head) return false;
  const auto inner = packet.subspan(sizeof(Frame));
  if (!decode_packet(inner)) return false;
  return true;
}

// What comes over a connection of the tcp lane: a claim, a verdict, a packet or a piece.
inline bool decode_connection(std::span<const std::byte> bytes) {
  const auto claim = decode_tcp_claim(bytes);
  if (claim && claim->stream > kMaxTcpStreams) std::abort();
  const auto verdict = decode_tcp_verdict(bytes);
  if (verdict && verdict->granted > TcpVerdict::kCannotEncrypt) std::abort();
  if (claim && verdict) std::abort();
  const auto piece = decode_tcp_piece(bytes);
  if (piece && (piece->ticket == 0 || piece->bytes > kMaxTcpPiece)) std::abort();
  const auto head = decode_tcp_head(bytes);
  if (head && head->header.payload_bytes > kMaxTcpPayload) std::abort();
  return claim || verdict || piece || (head && decode_packet(bytes.subspan(sizeof(TcpFrame))));
}

// An object's message, with and without its buffers.
inline bool decode_pickle(std::span<const std::byte> bytes) {
  const std::string_view message(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto found = find_buffers(message);
  std::vector<std::uint64_t> sizes;
  std::size_t at = 0;
  for (const PickledBuffer& buffer : found) {
    if (buffer.begin < at || buffer.data < buffer.begin || buffer.end() > message.size()) {
      std::abort();
    }
    at = buffer.end();
    sizes.push_back(buffer.bytes);
  }
  const std::string apart = take_buffers_out(message, found);
  for (const std::string_view stream : {message, std::string_view(apart)}) {
    const auto glue = put_buffers_in(stream, sizes);
    if (glue && glue->size() != sizes.size() + 1) std::abort();
  }
  return !found.empty();
}

}  // namespace mooncake_mpi::wire
