"""A process that is none of ours speaks the documented wire format with our lane.

Rank 1 is that process, driven by pyverbs; rank 0 runs the engine and knows no difference.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest
from barrier import quiet_barrier
from hosts import RANK, device_names
from mpi4py import MPI
from pyverbs import enums
from queue_pair import SUCCESS
from wire_peer import (
    CONTINUATION,
    CONTINUED,
    EAGER,
    FIN,
    HEAD,
    RTS,
    SPACE_AT,
    VERBS,
    Entry,
    WirePeer,
)

import mooncake_mpi

pytestmark = [pytest.mark.mpi(min_size=2)]
LARGE = 1 << 20
KEYS = struct.Struct("<QI4II")
RTS_BODY = struct.Struct("<Q")
OFFER = struct.Struct("<BB")
FIN_BODY = struct.Struct("<QII")


class Pair:
    """Rank 0: `comm`, over which rank 1 can be reached. Rank 1: `peer`, and rank 0's `entry`."""

    def __init__(self):
        self.raw = MPI.COMM_WORLD.Dup()
        if RANK == 0:
            self.comm = mooncake_mpi.Intracomm(self.raw)
            return
        self.peer = WirePeer(device_names(RANK))
        # what the engine of rank 0 does to start: heads, addresses, and that all can be used
        own = self.peer.entry()
        heads = self.gather(own.head())
        longest = max(HEAD.unpack(head)[4] for head in heads)
        self.entry = Entry.unpack(self.gather(own.pack().ljust(longest, b"\0"))[0])
        assert not any(map(any, self.gather(bytes(256))))

    def gather(self, mine):
        """What both processes have."""
        whole = bytearray(len(mine) * self.raw.size)
        self.raw.Allgather([mine, MPI.BYTE], [whole, MPI.BYTE])
        return [bytes(whole[at : at + len(mine)]) for at in range(0, len(whole), len(mine))]

    def close(self):
        if RANK == 1:
            self.peer.settle()
        quiet_barrier()
        if RANK == 0:
            self.comm.Free()
        else:
            self.raw.Free()
        quiet_barrier()
        if RANK == 1:
            self.peer.close()


@pytest.fixture
def pair():
    """Both processes, connected: a message of rank 0 has arrived."""
    made = Pair()
    if RANK == 0:
        made.comm.Send(b"first", 1, 5)
    else:
        made.peer.wire_up(made.entry)
        packet = made.peer.packet()
        assert (packet.kind, packet.tag, packet.payload) == (EAGER, 5, b"first")
        assert (packet.context, packet.source, packet.length) == (made.peer.context, 0, 5)
    yield made
    made.close()


def some_bytes():
    """The same on both sides."""
    return np.random.default_rng(1).integers(0, 256, LARGE, "u1")


def receive(comm, size, tag):
    """What rank 0 gets from the other process."""
    buffer = bytearray(size)
    status = MPI.Status()
    comm.Recv(buffer, 1, tag, status)
    assert status.Get_count(MPI.BYTE) == size
    return bytes(buffer)


def say(pair, tag, payload):
    """An eager message of the other process."""
    pair.peer.send(EAGER, pair.entry.context, 1, tag, payload)


def exposed(packet):
    """Send id, address and this rail's key out of an RTS."""
    assert packet.kind == RTS
    (send_id,) = RTS_BODY.unpack_from(packet.payload)
    assert OFFER.unpack_from(packet.payload, RTS_BODY.size) == (VERBS, KEYS.size)
    address, rails, key, *_ = KEYS.unpack_from(packet.payload, RTS_BODY.size + OFFER.size)
    assert rails & 1
    return send_id, address, key


def test_messages_in_the_documented_format_are_received(pair):
    if RANK == 0:
        assert receive(pair.comm, 3, 11) == b"abc"
        assert receive(pair.comm, 4000, 12) == b"d" * 4000
    else:
        say(pair, 11, b"abc")
        say(pair, 12, b"d" * 4000)


def say_in_pieces(pair, tag, pieces, length=None):
    """An eager message whose payload takes a packet for each piece."""
    length = sum(map(len, pieces)) if length is None else length
    for index, piece in enumerate(pieces):
        flags = CONTINUED if index + 1 < len(pieces) else 0
        if index == 0:
            pair.peer.send(EAGER, pair.entry.context, 1, tag, piece, flags=flags, length=length)
        else:
            pair.peer.send(CONTINUATION, pair.entry.context, 1, 0, piece, flags=flags)


def test_a_payload_may_take_several_packets(pair):
    data = some_bytes()[:12_000].tobytes()
    if RANK == 0:
        pair.comm.Send(data, 1, 41)
        assert receive(pair.comm, len(data), 42) == data
        return
    first, second = pair.peer.packet(), pair.peer.packet()
    assert (first.kind, first.flags, first.tag, first.length) == (EAGER, CONTINUED, 41, 12_000)
    assert (second.kind, second.flags, second.tag, second.length) == (CONTINUATION, 0, 0, 0)
    assert first.payload + second.payload == data
    say_in_pieces(pair, 42, [data[:5000], b"", data[5000:5001], data[5001:]])


def test_pieces_that_belong_to_no_message_are_dropped(pair):
    if RANK == 0:
        assert receive(pair.comm, 3, 51) == b"one"
        assert receive(pair.comm, 10, 52) == b"0123456789"
        assert not pair.comm.Iprobe(1, MPI.ANY_TAG)
        return
    context = pair.entry.context
    pair.peer.send(CONTINUATION, context, 1, 0, b"of nothing")
    pair.peer.send(CONTINUATION, context, 1, 0, b"of nothing", flags=CONTINUED)
    pair.peer.send(EAGER, context, 1, 51, b"never ended", flags=CONTINUED, length=20)
    say(pair, 51, b"one")
    pair.peer.send(CONTINUATION, context, 1, 0, b"too late")
    say_in_pieces(pair, 52, [b"longer", b" than promised"], length=7)
    say_in_pieces(pair, 52, [bytes(8000)] * 6)  # longer than any payload
    pair.peer.send(FIN, context, 1, 0, b"", flags=CONTINUED)
    say_in_pieces(pair, 52, [b"01234", b"56789"])


def test_a_large_message_is_read_where_its_rts_says_and_can_no_longer_be_read_after_its_fin(pair):
    if RANK == 0:
        data = some_bytes()
        pair.comm.Send(data, 1, 21)
        pair.comm.Send(b"after", 1, 22)
        # the engine goes on with this process when its connection has failed
        assert receive(pair.comm, 4, 23) == b"done"
        return
    packet = pair.peer.packet()
    assert packet.length == LARGE
    send_id, address, key = exposed(packet)
    connection = pair.peer.connected
    for offset in range(0, LARGE, 1 << 18):
        at, remote = SPACE_AT + offset, (address + offset, key)
        connection.post(enums.IBV_WR_RDMA_READ, 1 << 18, at=at, remote=remote)
        assert connection.completion() == SUCCESS
    assert connection.memory.read(LARGE, SPACE_AT) == some_bytes().tobytes()
    pair.peer.send(FIN, pair.entry.context, 1, 0, FIN_BODY.pack(send_id, 0, 0))
    after = pair.peer.packet()
    assert after.payload == b"after"
    connection.post(enums.IBV_WR_RDMA_READ, 64, at=SPACE_AT, remote=(address, key))
    assert connection.completion() == enums.IBV_WC_REM_ACCESS_ERR
    pair.peer.wire_up(pair.entry)
    say(pair, 23, b"done")


@pytest.mark.parametrize("with_key", ["its own", "a guessed"])
def test_memory_that_is_being_sent_cannot_be_written(pair, with_key):
    if RANK == 0:
        data = np.full(LARGE, 7, "u1")
        request = pair.comm.Isend(data, 1, 31)
        other = MPI.COMM_WORLD.irecv(source=1)
        while not other.test()[0]:
            request.Test()
        assert (data == 7).all()
        request.Wait()
        return
    send_id, address, key = exposed(pair.peer.packet())
    connection = pair.peer.connected
    connection.memory.write(b"\xee" * 4096, 4096, SPACE_AT)
    used = key if with_key == "its own" else key ^ 0x3300
    connection.post(enums.IBV_WR_RDMA_WRITE, 4096, at=SPACE_AT, remote=(address, used))
    assert connection.completion() == enums.IBV_WC_REM_ACCESS_ERR
    MPI.COMM_WORLD.send(None, 0)
    pair.peer.wire_up(pair.entry)
    pair.peer.send(FIN, pair.entry.context, 1, 0, FIN_BODY.pack(send_id, 0, 0))


def test_an_error_on_one_pair_of_processes_leaves_others_alone(pair):
    from mooncake_mpi.MPI import COMM_WORLD

    if RANK == 1:
        connection = pair.peer.connected
        connection.post(enums.IBV_WR_RDMA_READ, 8, at=SPACE_AT, remote=(4096, 0x4242))
        assert connection.completion() == enums.IBV_WC_REM_ACCESS_ERR
    got = COMM_WORLD.sendrecv(RANK, 1 - RANK, source=1 - RANK)
    assert got == 1 - RANK
    if RANK == 0:
        pair.comm.Send(b"again", 1, 41)
    else:
        pair.peer.wire_up(pair.entry)
        assert pair.peer.packet().payload == b"again"


def test_a_datagram_without_the_secret_is_dropped(pair):
    if RANK == 1:
        peer = pair.peer
        # with the secret, it would end the connection: it announces a later one
        forged = peer.hello(pair.entry, known=0, ready=0)
        forged.offers[0] = (peer.epoch + 5, 0x1234, 1, 0, 0)
        for _ in range(3):
            peer.say(pair.entry, forged, secret=bytes(32))
        say(pair, 51, b"still here")
        packet = peer.packet()
        assert packet.payload == b"here too"
        assert peer.epoch == 1
    else:
        assert receive(pair.comm, 10, 51) == b"still here"
        pair.comm.Send(b"here too", 1, 52)
