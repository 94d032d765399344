"""Random message plans: drawn once, executed by two implementations, with one right result.

A plan is a list of rounds. In a round every receiver hears from one source, so that wildcards leave nothing to
chance: MPI's rules then say which message each receive gets. All ranks end a round together.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st
from payload import pattern
from subject import quiet_barrier

MODES = ["Isend", "Issend", "isend", "Send_init"]
WAYS = ["Irecv", "Recv", "Mprobe", "Recv_init"]
SIZES = [0, 1, 8, 300, 5000, 20_000, 70_000, 400_000]


@dataclass
class Message:
    """One message of a flow."""

    tag: int
    size: int
    mode: str
    seed: int


@dataclass
class Receive:
    """One receive of a flow, with the index of the message that MPI's rules give it."""

    any_source: bool
    any_tag: bool
    tag: int
    way: str
    expected: int = -1
    mode: str = ""


@dataclass
class Flow:
    """The messages of one pair of ranks in one round, in sending and in receiving order."""

    source: int
    dest: int
    messages: list[Message] = field(default_factory=list)
    receives: list[Receive] = field(default_factory=list)


def assign(messages, receives):
    """Fill ``expected``: each receive takes the earliest message left that it matches.

    A receive that would find none becomes a wildcard, until all are served.
    """
    while True:
        left = list(range(len(messages)))
        for receive in receives:
            receive.expected = next(
                (i for i in left if receive.any_tag or messages[i].tag == receive.tag), -1
            )
            if receive.expected < 0:
                receive.any_tag = True
                break
            left.remove(receive.expected)
            receive.mode = messages[receive.expected].mode
        else:
            return


@st.composite
def flows(draw, source, dest):
    """Up to twelve messages and as many receives, of which some have wildcards."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(0, 3),
                st.sampled_from(SIZES),
                st.sampled_from(MODES),
                st.integers(0, 250),
            ),
            min_size=1,
            max_size=12,
        )
    )
    messages = [Message(*values) for values in drawn]
    order = draw(st.permutations(range(len(messages))))
    receives = [
        Receive(
            draw(st.booleans()), draw(st.booleans()), messages[i].tag, draw(st.sampled_from(WAYS))
        )
        for i in order
    ]
    assign(messages, receives)
    return Flow(source, dest, messages, receives)


@st.composite
def plans(draw, ranks):
    """One to three rounds; in each, every rank may hear from one random rank."""
    rounds = []
    for _ in range(draw(st.integers(1, 3))):
        sources = draw(st.lists(st.integers(0, ranks - 1), min_size=ranks, max_size=ranks))
        heard = draw(st.lists(st.booleans(), min_size=ranks, max_size=ranks))
        rounds.append(
            (
                draw(st.booleans()),
                [
                    draw(flows(source, dest))
                    for dest, source in enumerate(sources)
                    if heard[dest] or not any(heard)
                ],
            )
        )
    return rounds


def content(message):
    return pattern(message.size, message.seed)


def send(comm, flow, message):
    """Start one message; returns what keeps it going."""
    data = content(message)
    if message.mode == "Send_init":
        request = comm.Send_init(data, flow.dest, message.tag)
        request.Start()
        return request
    if message.mode == "isend":
        return comm.isend((message.seed, data), flow.dest, message.tag)
    return getattr(comm, message.mode)(data, flow.dest, message.tag)


def checksum(data):
    return zlib.crc32(np.ascontiguousarray(data))


def post(mpi, comm, flow, receive):
    """Start one receive; returns a function that ends it and says what came."""
    source = mpi.ANY_SOURCE if receive.any_source else flow.source
    tag = mpi.ANY_TAG if receive.any_tag else receive.tag
    status = mpi.Status()
    size = flow.messages[receive.expected].size
    if receive.mode == "isend":
        if receive.way in ("Irecv", "Recv_init"):
            request = comm.irecv(bytearray(size + 5000), source, tag)
            value = lambda: request.wait(status)  # noqa: E731
        elif receive.way == "Mprobe":
            message = comm.mprobe(source, tag)
            value = lambda: message.recv(status)  # noqa: E731
        else:
            received = comm.recv(None, source, tag, status)
            value = lambda: received  # noqa: E731

        def end_object():
            seed, data = value()
            return status.source, status.tag, seed, data.size, checksum(data)

        return end_object

    into = np.zeros(size + 16, np.uint8)
    if receive.way == "Irecv":
        request = comm.Irecv(into, source, tag)
        wait = lambda: request.Wait(status)  # noqa: E731
    elif receive.way == "Recv_init":
        request = comm.Recv_init(into, source, tag)
        request.Start()

        def wait():
            request.Wait(status)
            request.Free()

    elif receive.way == "Mprobe":
        message = comm.Mprobe(source, tag)
        wait = lambda: message.Recv(into, status)  # noqa: E731
    else:
        comm.Recv(into, source, tag, status)
        wait = lambda: None  # noqa: E731

    def end():
        wait()
        count = status.Get_count(mpi.BYTE)
        return status.source, status.tag, -1, count, checksum(into[:count]), not into[count:].any()

    return end


def execute(mpi, comm, rounds):
    """Run a plan on this rank with one implementation; what each receive got, in posting order."""
    results = []
    for sends_first, flows_of_round in rounds:
        outgoing = [flow for flow in flows_of_round if flow.source == comm.rank]
        incoming = [flow for flow in flows_of_round if flow.dest == comm.rank]
        # A receive that blocks in its posting needs this rank's own messages to be under way.
        blocks = any(r.way in ("Recv", "Mprobe") for flow in incoming for r in flow.receives)
        pending, ends = [], []
        if sends_first or blocks:
            pending = [send(comm, flow, message) for flow in outgoing for message in flow.messages]
        for flow in incoming:
            ends += [post(mpi, comm, flow, receive) for receive in flow.receives]
        if not (sends_first or blocks):
            pending = [send(comm, flow, message) for flow in outgoing for message in flow.messages]
        results += [end() for end in ends]
        mpi.Request.Waitall(pending)
        for request in pending:
            if isinstance(request, mpi.Prequest):
                request.Free()
        quiet_barrier()
    return results


def prescribed(rounds, rank):
    """What MPI's rules say that ``execute`` must return on a rank."""
    results = []
    for _, flows_of_round in rounds:
        for flow in flows_of_round:
            if flow.dest != rank:
                continue
            for receive in flow.receives:
                message = flow.messages[receive.expected]
                is_object = message.mode == "isend"
                values = (
                    flow.source,
                    message.tag,
                    message.seed if is_object else -1,
                    message.size,
                    checksum(content(message)),
                )
                results.append(values if is_object else (*values, True))
    return results
