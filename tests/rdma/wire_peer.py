"""A process of a job that is none of ours: pyverbs and `struct`, after docs/wire.md alone."""

from __future__ import annotations

import hmac
import os
import struct
import time
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from pyverbs import enums
from queue_pair import SUCCESS, Address, QueuePair

MAX_RAILS = 4
VERSION = 4
MAGIC = 0x49504D4D
HEAD = struct.Struct("<IHHII16s")
MEMBER = 1
ADDRESS = struct.Struct("<IHHII16s16s32sQiI")
SECTION = struct.Struct("<BBH")
VERBS = 3  # the lane's number
RAIL = struct.Struct("<16sIIHHB3x")
HELLO = struct.Struct("<IHH16s16sIIQ")
OFFER = struct.Struct("<IIIII")
PROOF_BYTES = 32
HELLO_MAGIC = 0x4F4C4548
FRAME = struct.Struct("<IIQ")
HEADER = struct.Struct("<BBHIiiIII")
EAGER, RTS, FIN, CREDIT, CONTINUATION = 1, 3, 6, 9, 0x40
CONTINUED = 0x80  # flag: the payload goes on in the next packet
GRH_BYTES = 40
DATAGRAM_BYTES = 256
PACKET_BYTES = 8 * 1024 + 256
RECEIVES = 36
CREDITS = 32
SAY_AT = 16 * DATAGRAM_BYTES  # in the memory of the datagrams
SEND_AT = RECEIVES * PACKET_BYTES  # in the memory of the connection
SPACE_AT = SEND_AT + PACKET_BYTES
TIMEOUT_SECONDS = 90.0


def pair_key(one: tuple[bytes, bytes], other: tuple[bytes, bytes], purpose: bytes) -> bytes:
    """The key of two processes, each (process id, secret): HKDF-SHA256 in the order of the ids."""
    (uid, secret), (other_uid, other_secret) = sorted((one, other))
    extracted = hmac.digest(b"mooncake_mpi pair of processes", secret + other_secret, "sha256")
    return hmac.digest(extracted, purpose + uid + other_uid + b"\1", "sha256")


def checksum(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


@dataclass(frozen=True)
class Rail:
    """One port of a process, as its address tells."""

    gid: bytes
    queue_pair: int
    queue_key: int
    lid: int
    mtu: int
    is_global: int

    def pack(self) -> bytes:
        return RAIL.pack(
            self.gid, self.queue_pair, self.queue_key, self.lid, self.mtu, self.is_global
        )

    @property
    def gid_text(self) -> str:
        return IPv6Address(self.gid).exploded


@dataclass(frozen=True)
class Entry:
    """A process's address for one communicator."""

    uid: bytes
    context: int
    secret: bytes
    rails: list[Rail]

    def pack(self) -> bytes:
        rails = b"".join(rail.pack() for rail in self.rails).ljust(MAX_RAILS * RAIL.size, b"\0")
        sections = SECTION.pack(VERBS, 0, len(rails)) + rails
        size = ADDRESS.size + len(sections) + 8
        core = ADDRESS.pack(
            MAGIC, VERSION, 1, size, self.context, self.uid, b"another host....", self.secret, 0,
            os.getpid(), 0,
        )  # fmt: skip
        return core + sections + struct.pack("<Q", checksum(core + sections))

    def head(self) -> bytes:
        """What goes through the communicator before the address."""
        return HEAD.pack(MAGIC, VERSION, MEMBER, self.context, len(self.pack()), self.uid)

    @classmethod
    def unpack(cls, data: bytes) -> Entry:
        magic, version, count, size, context, uid, _host, secret, *_ = ADDRESS.unpack_from(data)
        assert (magic, version) == (MAGIC, VERSION)
        assert struct.unpack_from("<Q", data, size - 8)[0] == checksum(data[: size - 8])
        assert not any(data[size:])
        sections, at = {}, ADDRESS.size
        for _ in range(count):
            lane, reserved, length = SECTION.unpack_from(data, at)
            assert reserved == 0
            sections[lane] = data[at + SECTION.size : at + SECTION.size + length]
            at += SECTION.size + length
        assert at == size - 8
        rails = [Rail(*fields) for fields in RAIL.iter_unpack(sections[VERBS])]
        return cls(uid, context, secret, [rail for rail in rails if rail.queue_pair])


@dataclass
class Packet:
    """What arrived on the connected queue pair, without its frame."""

    kind: int
    flags: int
    context: int
    source: int
    tag: int
    length: int
    payload: bytes


@dataclass
class Hello:
    """The datagram of the wire-up; an offer is (epoch, queue pair, PSN, known epoch, ready)."""

    sender: bytes
    to: bytes
    paths: int
    offers: list[tuple[int, int, int, int, int]]
    credits: int = CREDITS
    moment: int = field(default_factory=time.monotonic_ns)

    def pack(self, key: bytes) -> bytes:
        offers = [*self.offers, *[(0, 0, 0, 0, 0)] * (MAX_RAILS - len(self.offers))]
        said = HELLO.pack(
            HELLO_MAGIC, VERSION, self.paths, self.sender, self.to, self.credits, 0, self.moment
        ) + b"".join(OFFER.pack(*offer) for offer in offers)
        return said + hmac.digest(key, said, "sha256")

    @classmethod
    def unpack(cls, data: bytes, key: bytes) -> Hello:
        assert len(data) == HELLO.size + MAX_RAILS * OFFER.size + PROOF_BYTES
        said, proof = data[:-PROOF_BYTES], data[-PROOF_BYTES:]
        assert hmac.compare_digest(proof, hmac.digest(key, said, "sha256"))
        magic, version, paths, sender, to, credit_count, reserved, moment = HELLO.unpack_from(said)
        assert (magic, version, reserved) == (HELLO_MAGIC, VERSION, 0)
        offers = list(OFFER.iter_unpack(said[HELLO.size :]))
        return cls(sender, to, paths, offers, credit_count, moment)


@dataclass
class WirePeer:
    """Hears datagrams on all its devices; its first one alone has a connection."""

    devices: list[str]
    context: int = 7
    key: int = 0x1234567
    uid: bytes = field(default_factory=lambda: os.urandom(16))
    secret: bytes = field(default_factory=lambda: os.urandom(32))

    def __post_init__(self):
        self.datagrams = [QueuePair(name, queue_key=self.key) for name in self.devices]
        self.sent = self.consumed = 0
        self.connected: QueuePair | None = None
        self.epoch = 0
        for pair in self.datagrams:
            for slot in range(16):
                pair.receive(DATAGRAM_BYTES, slot * DATAGRAM_BYTES)

    def entry(self) -> Entry:
        """The address that goes through the communicator."""
        rails = []
        for pair in self.datagrams:
            own = pair.address()
            gid, is_global = IPv6Address(own.gid).packed, int(own.lid == 0)
            rails.append(Rail(gid, own.number, self.key, own.lid, pair.mtu, is_global))
        return Entry(self.uid, self.context, self.secret, rails)

    def key_with(self, other: Entry, secret: bytes | None = None) -> bytes:
        """The key for datagrams between this process, perhaps with another secret, and another."""
        own = self.secret if secret is None else secret
        return pair_key((self.uid, own), (other.uid, other.secret), b"hello")

    def hear(self, other: Entry) -> Hello:
        """The next datagram, which is the other's."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            for pair in self.datagrams:
                pair.poll()
                if pair.arrived:
                    slot, size = pair.arrived.pop(0)
                    data = pair.memory.read(size - GRH_BYTES, slot + GRH_BYTES)
                    pair.receive(DATAGRAM_BYTES, slot)
                    return Hello.unpack(data, self.key_with(other))
            time.sleep(1e-3)
        raise TimeoutError("no datagram")

    def say(self, other: Entry, hello: Hello, *, secret: bytes | None = None) -> None:
        """Send a datagram to the other's first rail, perhaps with a secret that is not ours."""
        rail, data = other.rails[0], hello.pack(self.key_with(other, secret))
        pair = self.datagrams[0]
        pair.memory.write(data, len(data), SAY_AT)
        address = Address(rail.queue_pair, rail.gid_text, rail.lid, 0, 0, 0)
        pair.post_datagram(len(data), SAY_AT, address, rail.queue_key)

    def hello(self, other: Entry, *, known: int, ready: int) -> Hello:
        """What this process has to offer: the first path, the others are down."""
        own = self.connected
        offers = [(self.epoch, own.pair.qp_num, own.packet_number, known, ready)]
        offers += [(1, 0, 0, 0, 0)] * (len(other.rails) - 1)
        return Hello(self.uid, other.uid, len(other.rails), offers)

    def wire_up(self, other: Entry) -> None:
        """Connect the first path, again if it was connected, in the epoch that the other begins."""
        before = self.epoch
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            heard = self.hear(other)
            assert (heard.sender, heard.to) == (other.uid, self.uid)
            epoch, number, packet_number, known, ready = heard.offers[0]
            if epoch > self.epoch and number:
                self._connect(other, epoch, number, packet_number)
            if self.epoch == before:
                continue  # what was still under way when the connection failed
            if known == self.epoch and ready:
                return
            self.say(other, self.hello(other, known=self.epoch, ready=0))
        raise TimeoutError("the other side does not get ready")

    def _connect(self, other: Entry, epoch: int, number: int, packet_number: int) -> None:
        if self.connected is not None:
            self.connected.close()
        # PSNs are random, so that packets of an old connection fit no new one
        own = int.from_bytes(os.urandom(3), "little")
        self.connected = QueuePair(self.devices[0], SPACE_AT + (4 << 20), own)
        rail = other.rails[0]
        address = Address(number, rail.gid_text, rail.lid, packet_number, 0, 0)
        self.connected.connect(address, min(rail.mtu, self.connected.mtu))
        for slot in range(RECEIVES):
            self.connected.receive(PACKET_BYTES, slot * PACKET_BYTES)
        self.epoch = epoch

    def send(
        self,
        kind: int,
        context: int,
        source: int,
        tag: int,
        payload: bytes,
        *,
        flags: int = 0,
        length: int | None = None,
    ) -> None:
        """One packet; a credit packet is not counted. ``length``: of the whole message."""
        if length is None:
            length = len(payload) if kind == EAGER else 0
        if kind != CREDIT:
            self.sent += 1
        frame = FRAME.pack(0 if kind == CREDIT else self.sent, self.consumed, 0)
        header = HEADER.pack(kind, flags, 0, context, source, tag, len(payload), length, 0)
        data = frame + header + payload
        self.connected.memory.write(data, len(data), SEND_AT)
        self.connected.post(enums.IBV_WR_SEND, len(data), at=SEND_AT)
        assert self.connected.completion() == SUCCESS

    def packet(self) -> Packet:
        """The next packet but credits, which is then consumed."""
        while True:
            slot, size = self.connected.arrival(TIMEOUT_SECONDS)
            data = self.connected.memory.read(size, slot)
            self.connected.receive(PACKET_BYTES, slot)
            sequence, _consumed, _credit = FRAME.unpack_from(data)
            kind, flags, reserved, context, source, tag, payload_bytes, low, high = (
                HEADER.unpack_from(data, FRAME.size)
            )
            assert (flags & ~CONTINUED, reserved) == (0, 0)
            if kind == CREDIT:
                assert sequence == 0
                continue
            if sequence <= self.consumed:
                continue  # sent again over a new connection, and consumed before
            assert sequence == self.consumed + 1
            self.consumed = sequence
            payload = data[FRAME.size + HEADER.size :]
            assert len(payload) == payload_bytes
            return Packet(kind, flags, context, source, tag, low | high << 32, payload)

    def settle(self) -> None:
        """Say what was consumed, so that the other has nothing left to send."""
        self.send(CREDIT, 0, 0, 0, struct.pack("<Q", 0))

    def close(self) -> None:
        for pair in (self.connected, *self.datagrams):
            if pair is not None:
                pair.close()
