"""One thread of a rank: carries out rounds and compares every byte that arrives."""

from __future__ import annotations

import random
import time

import numpy as np
from plan import HEADER_BYTES, LARGEST_BYTES, Message, Round

from mooncake_mpi import MPI

GUARD_BYTES = 64
GUARD = 0xA5
_SOURCE = np.random.default_rng(20260101).integers(0, 256, LARGEST_BYTES + 4096, np.uint8)


class WrongMessageError(AssertionError):
    """A message came with other bytes, another status or in another order than promised."""


def content(message: Message, with_header: bool):
    """The bytes of a message; with wildcards they begin with its index."""
    data = _SOURCE[message.offset : message.offset + message.size_bytes]
    if not with_header:
        return data
    data = data.copy()
    data[:HEADER_BYTES] = np.frombuffer(message.index.to_bytes(HEADER_BYTES, "little"), np.uint8)
    return data


class Worker:
    """Carries out rounds on its own communicator."""

    def __init__(self, comm, seed):
        self.comm = comm
        self.rank = comm.Get_rank()
        self.timing = random.Random(f"{seed}/{self.rank}")  # not part of what is promised
        self.now = None
        self.messages = 0
        self.bytes = 0

    def run(self, plan: Round) -> None:
        """One round; every request has completed when it returns."""
        self.plan = plan
        self.wild = plan.wildcards[self.rank]
        self.requests, self.object_sends, self.pending, self.kept = [], [], [], []
        self.blocks = []
        self.received = []  # (place among the posted receives, message)
        self.places = 0
        for message in plan.messages:
            if self.timing.random() < 0.01:
                time.sleep(self.timing.random() / 500)
            self.now = message
            if message.source == self.rank:
                self.send(message)
            if message.dest == self.rank:
                self.receive(message)
        self.finish()
        self.check_order()
        for block in self.blocks:
            MPI.Free_mem(block)

    def new(self, size_bytes: int):
        """Uninitialised bytes: of NumPy, or of Alloc_mem, which is freed at the end of the round."""
        if size_bytes == 0 or self.timing.random() < 0.6:
            return np.empty(size_bytes, np.uint8)
        block = MPI.Alloc_mem(size_bytes)
        self.blocks.append(block)
        return np.frombuffer(block, np.uint8)

    def send(self, message: Message) -> None:
        data = content(message, self.plan.has_wildcards)
        call = getattr(self.comm, message.send)
        if self.timing.random() < 0.5:  # else straight from memory that all messages share
            copy = self.new(data.size)
            copy[:] = data
            data = copy
        if message.is_object:
            request = call({"index": message.index, "data": data}, message.dest, message.tag)
            if request is not None:
                self.object_sends.append(request)
            return
        request = call(data, message.dest, message.tag)
        if request is not None:
            self.kept.append(data)
            if message.send.endswith("_init"):
                request.Start()
            self.requests.append(request)

    def envelope(self, message: Message):
        source = MPI.ANY_SOURCE if self.wild in {"source", "both"} else message.source
        tag = MPI.ANY_TAG if self.wild in {"tag", "both"} else message.tag
        return source, tag

    def receive(self, message: Message) -> None:
        source, tag = self.envelope(message)
        place = self.places
        self.places += 1
        status = MPI.Status()
        if message.is_object:
            obj = self.receive_object(message.receive, source, tag, status)
            self.check_object(message, place, obj, status)
            return
        largest = message.size_bytes
        if self.wild != "none":
            largest = max(m.size_bytes for m in self.plan.messages if m.dest == self.rank)
        into = self.new(largest + GUARD_BYTES)
        into[:] = GUARD
        if message.receive in {"Irecv", "Recv_init"}:
            request = getattr(self.comm, message.receive)(into, source, tag)
            if message.receive == "Recv_init":
                request.Start()
            self.pending.append((len(self.requests), message, place, into))
            self.requests.append(request)
            return
        if message.receive == "Recv":
            self.comm.Recv(into, source, tag, status)
        elif message.receive == "Probe":
            self.comm.Probe(source, tag, status)
            self.comm.Recv(into, status.Get_source(), status.Get_tag(), status)
        elif message.receive == "Mprobe":
            self.comm.Mprobe(source, tag).Recv(into, status)
        else:
            found = None
            while found is None:
                found = self.comm.Improbe(source, tag)
            found.Recv(into, status)
        self.check(message, place, into, status)

    def receive_object(self, how, source, tag, status):
        if how == "recv":
            return self.comm.recv(None, source, tag, status)
        if how == "mprobe":
            return self.comm.mprobe(source, tag).recv(status)
        found = None
        while found is None:
            found = self.comm.improbe(source, tag)
        return found.recv(status)

    def finish(self) -> None:
        """Complete all requests by the round's call, then look at what the receives got."""
        statuses = self.complete(self.plan.finish)
        for place_in_requests, message, place, into in self.pending:
            self.check(message, place, into, statuses[place_in_requests])
        for request in self.object_sends:
            request.wait()
        for request in self.requests:
            if request != MPI.REQUEST_NULL:
                request.Free()  # persistent

    def complete(self, how):
        requests = self.requests
        statuses = [MPI.Status() for _ in requests]
        left = set(range(len(requests)))
        if how == "Waitall":
            MPI.Request.Waitall(requests, statuses)
            return statuses
        if how == "Testall":
            while not MPI.Request.Testall(requests, statuses):
                time.sleep(0)
            return statuses
        if how == "Wait":
            for index in self.timing.sample(range(len(requests)), len(requests)):
                requests[index].Wait(statuses[index])
            return statuses
        while left:
            if how == "Waitany":
                status = MPI.Status()
                done, some = [MPI.Request.Waitany(requests, status)], [status]
            else:
                some = [MPI.Status() for _ in requests]
                done = getattr(MPI.Request, how)(requests, some)
                if not done:
                    time.sleep(0)
                    continue
            for index, status in zip(done, some, strict=False):
                if index not in left:
                    raise WrongMessageError(f"{how} completed request {index} twice")
                left.discard(index)
                statuses[index] = status
        return statuses

    def matched(self, expected: Message, index, status) -> Message:
        """The message that arrived, which a wildcard leaves open, checked against the envelope."""
        if self.wild == "none":
            got = expected
        elif 0 <= index < len(self.plan.messages):
            got = self.plan.messages[index]
        else:
            raise WrongMessageError(f"no message has the index {index}")
        allowed = self.wild in {"source", "both"} or got.source == expected.source
        allowed = allowed and (self.wild in {"tag", "both"} or got.tag == expected.tag)
        if got.dest != self.rank or not allowed:
            raise WrongMessageError(f"{got} came to a receive for {expected}")
        if (status.Get_source(), status.Get_tag()) != (got.source, got.tag):
            raise WrongMessageError(
                f"{got}: the status says {status.Get_source()}, {status.Get_tag()}"
            )
        return got

    def check(self, expected: Message, place: int, into, status) -> None:
        index = (
            int.from_bytes(into[:HEADER_BYTES].tobytes(), "little") if self.wild != "none" else 0
        )
        got = self.matched(expected, index, status)
        if status.Get_count(MPI.BYTE) != got.size_bytes:
            raise WrongMessageError(f"{got}: the status counts {status.Get_count(MPI.BYTE)}")
        right = content(got, self.plan.has_wildcards)
        wrong = np.flatnonzero(into[: got.size_bytes] != right)
        if wrong.size:
            raise WrongMessageError(f"{got}: {wrong.size} wrong bytes from {wrong[0]}")
        if not (into[got.size_bytes :] == GUARD).all():
            raise WrongMessageError(f"{got}: bytes past its end were touched")
        self.note(place, got)

    def check_object(self, expected: Message, place: int, obj, status) -> None:
        got = self.matched(expected, obj["index"], status)
        if obj["index"] != got.index:
            raise WrongMessageError(f"{got}: the object is of message {obj['index']}")
        if not np.array_equal(obj["data"], content(got, self.plan.has_wildcards)):
            raise WrongMessageError(f"{got}: the object holds other bytes")
        self.note(place, got)

    def note(self, place: int, got: Message) -> None:
        self.received.append((place, got))
        self.messages += 1
        self.bytes += got.size_bytes

    def check_order(self) -> None:
        """Each message once, and those of one source and tag in the order of sends and receives."""
        mine = [message.index for message in self.plan.messages if message.dest == self.rank]
        if sorted(message.index for _, message in self.received) != mine:
            raise WrongMessageError("messages were lost or came twice")
        last = {}
        for _, message in sorted(self.received, key=lambda item: item[0]):
            # with ANY_TAG receives no message of a source may overtake another of it
            key = message.source if self.wild in {"tag", "both"} else (message.source, message.tag)
            if last.get(key, -1) > message.index:
                raise WrongMessageError(f"{message} overtook message {last[key]}")
            last[key] = message.index
