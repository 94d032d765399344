"""Python objects travel by every lowercase method, in one matching space with buffers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of, wait_until

OBJECTS = [
    None,
    7,
    -(2**80),
    "text \N{SNOWMAN}" * 100,
    b"",
    b"bytes" * 50_000,
    {"key": [1, 2.5, (3, None)], "nested": {"deep": set(range(100))}},
    list(range(50_000)),
]
IDS = [f"{type(value).__name__}-{index}" for index, value in enumerate(OBJECTS)]


@pytest.mark.parametrize("value", OBJECTS, ids=IDS)
@pytest.mark.parametrize("name", ["isend", "issend", "ibsend"])
def test_an_object_sent_without_blocking_arrives_equal(comm, attached, name, value):
    dest, source = ring_of(comm)
    request = getattr(comm, name)(value, dest, 3)
    assert comm.recv(None, source, 3) == value
    assert request.wait() is None


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("value", OBJECTS, ids=IDS)
@pytest.mark.parametrize("name", ["send", "ssend", "bsend"])
def test_an_object_sent_by_a_blocking_call_arrives_equal(comm, attached, name, value):
    if comm.rank == 0:
        assert getattr(comm, name)(value, dest=1, tag=3) is None
    elif comm.rank == 1:
        assert comm.recv(source=0, tag=3) == value


@pytest.mark.parametrize("value", OBJECTS, ids=IDS)
def test_sendrecv_exchanges_objects_in_a_ring(comm, value):
    dest, source = ring_of(comm)
    received = comm.sendrecv((comm.rank, value), dest, 1, None, source, 1)
    assert received == (source, value)


def test_irecv_returns_the_object_from_wait(comm):
    dest, source = ring_of(comm)
    receive = comm.irecv(source=source, tag=2)
    send = comm.isend({"rank": comm.rank}, dest, 2)
    status = MPI.Status()
    assert receive.wait(status) == {"rank": source}
    assert (status.source, status.tag) == (source, 2)
    send.wait()


def test_irecv_returns_the_object_from_test(comm):
    dest, source = ring_of(comm)
    receive = comm.irecv(source=source, tag=2)
    quiet_barrier()
    flag, value = receive.test()
    assert (flag, value) == (False, None)
    quiet_barrier()
    send = comm.isend("now", dest, 2)
    results = []
    wait_until(lambda: results.append(receive.test()) or results[-1][0])
    assert results[-1] == (True, "now")
    send.wait()


@pytest.mark.ours
def test_irecv_takes_an_object_of_any_size_without_a_buffer(comm):
    dest, source = ring_of(comm)
    value = {"large": b"x" * 3_000_000, "rank": comm.rank}
    receive = comm.irecv(source=source)
    send = comm.isend(value, dest)
    assert receive.wait() == {"large": value["large"], "rank": source}
    send.wait()


def test_large_arrays_arrive_equal_writable_and_as_separate_memory(comm):
    dest, source = ring_of(comm)
    arrays = [np.arange(400_000) + comm.rank, pattern(3_000_000, comm.rank), np.zeros((0, 3))]
    request = comm.isend(arrays, dest)
    words, octets, nothing = comm.recv(source=source)
    request.wait()
    assert np.array_equal(words, np.arange(400_000) + source)
    assert is_pattern(octets, source)
    assert nothing.shape == (0, 3)
    words += 1
    octets[:] = 0
    assert np.array_equal(arrays[0], np.arange(400_000) + comm.rank)


def test_many_arrays_of_one_object_keep_their_order(comm):
    dest, source = ring_of(comm)
    values = [np.full(1 + 3000 * (index % 5), index * 10 + comm.rank) for index in range(40)]
    request = comm.isend(values, dest)
    received = comm.recv(source=source)
    request.wait()
    assert [int(array[0]) for array in received] == [index * 10 + source for index in range(40)]
    assert [array.size for array in received] == [array.size for array in values]


def test_objects_and_buffers_share_one_matching_order(comm):
    dest, source = ring_of(comm)
    requests = [
        comm.isend("first", dest, 1),
        comm.Isend(pattern(10, 2), dest, 1),
        comm.isend(pattern(200_000, 3), dest, 1),
        comm.Isend(pattern(200_000, 4), dest, 1),
        comm.isend("last", dest, 1),
    ]
    small, large = np.zeros(10, np.uint8), np.zeros(200_000, np.uint8)
    assert comm.recv(source=source, tag=1) == "first"
    comm.Recv(small, source, 1)
    assert is_pattern(comm.recv(source=source, tag=1), 3)
    comm.Recv(large, source, 1)
    assert comm.recv(source=source, tag=1) == "last"
    assert is_pattern(small, 2)
    assert is_pattern(large, 4)
    MPI.Request.Waitall(requests)


def test_objects_of_two_tags_with_large_arrays_may_be_received_in_reverse(comm):
    dest, source = ring_of(comm)
    requests = [comm.isend(pattern(500_000, tag), dest, tag) for tag in range(6)]
    for tag in reversed(range(6)):
        assert is_pattern(comm.recv(source=source, tag=tag), tag)
    MPI.Request.waitall(requests)


def test_lowercase_waits_return_the_objects(comm):
    dest, source = ring_of(comm)
    receives = [comm.irecv(source=source, tag=tag) for tag in range(4)]
    sends = [comm.isend(("value", tag), dest, tag) for tag in range(4)]
    assert MPI.Request.waitall(receives) == [("value", tag) for tag in range(4)]
    assert MPI.Request.waitall(sends) == [None] * 4


def test_waitany_and_waitsome_return_indices_and_objects(comm):
    dest, source = ring_of(comm)
    receives = [comm.irecv(source=source, tag=tag) for tag in range(5)]
    sends = [comm.isend(tag * 11, dest, tag) for tag in range(5)]
    received = {}
    index, value = MPI.Request.waitany(receives)
    received[index] = value
    while len(received) < 5:
        indices, values = MPI.Request.waitsome(receives)
        received.update(zip(indices, values, strict=True))
    assert received == {tag: tag * 11 for tag in range(5)}
    MPI.Request.waitall(sends)


def test_testall_testany_and_testsome_return_objects_once_they_are_there(comm):
    dest, source = ring_of(comm)
    receives = [comm.irecv(source=source, tag=tag) for tag in range(3)]
    quiet_barrier()
    assert MPI.Request.testall(receives) == (False, None)
    quiet_barrier()
    sends = [comm.isend(tag, dest, tag) for tag in range(3)]
    outcomes = []
    wait_until(lambda: outcomes.append(MPI.Request.testall(receives)) or outcomes[-1][0])
    assert outcomes[-1] == (True, [0, 1, 2])
    MPI.Request.waitall(sends)
    receives = [comm.irecv(source=source, tag=tag) for tag in range(2)]
    sends = [comm.isend(tag, dest, tag) for tag in range(2)]
    received = {}

    def drained():
        index, flag, value = MPI.Request.testany(receives)
        if flag and index != MPI.UNDEFINED:
            received[index] = value
        return len(received) == 2

    wait_until(drained)
    assert received == {0: 0, 1: 1}
    MPI.Request.waitall(sends)


def test_probe_and_iprobe_see_an_object_before_it_is_received(comm):
    dest, source = ring_of(comm)
    status = MPI.Status()
    request = comm.isend("seen", dest, 8)
    assert comm.probe(source, 8, status) is True
    assert (status.source, status.tag) == (source, 8)
    assert comm.iprobe(source, 8) is True
    assert comm.iprobe(source, 9) is False
    assert comm.recv(source=source, tag=8) == "seen"
    assert comm.iprobe(source, 8) is False
    request.wait()


def test_a_matched_object_is_received_by_its_message_only(comm):
    dest, source = ring_of(comm)
    requests = [comm.isend(("object", turn), dest, 4) for turn in range(3)]
    first = comm.mprobe(source, 4)
    second = []
    wait_until(lambda: second.append(comm.improbe(source, 4)) or second[-1])
    assert comm.recv(source=source, tag=4) == ("object", 2)
    assert second[-1].irecv().wait() == ("object", 1)
    assert first.recv() == ("object", 0)
    MPI.Request.waitall(requests)


def test_to_process_null_an_object_is_dropped_and_none_received(comm):
    comm.send("dropped", MPI.PROC_NULL)
    comm.isend("dropped", MPI.PROC_NULL).wait()
    status = MPI.Status()
    assert comm.recv(source=MPI.PROC_NULL, status=status) is None
    assert status.source == MPI.PROC_NULL
    assert comm.irecv(source=MPI.PROC_NULL).wait() is None
    assert comm.sendrecv("dropped", MPI.PROC_NULL, source=MPI.PROC_NULL) is None


def test_an_object_that_cannot_be_pickled_raises_and_the_next_one_arrives(comm):
    dest, source = ring_of(comm)
    with pytest.raises((TypeError, AttributeError)) as raised:
        comm.isend(lambda: None, dest)
    assert "pickle" in str(raised.value) or "lambda" in str(raised.value)
    request = comm.isend("fine", dest)
    assert comm.recv(source=source) == "fine"
    request.wait()


class RaisesWhenLoaded:
    """Pickles well; loading it raises."""

    def __reduce__(self):
        return (int, ("not a number",))


def test_an_object_that_cannot_be_loaded_raises_and_the_next_one_arrives(comm):
    dest, source = ring_of(comm)
    request = comm.isend(RaisesWhenLoaded(), dest)
    with pytest.raises(ValueError, match="not a number"):
        comm.recv(source=source)
    request.wait()
    request = comm.isend("fine", dest)
    assert comm.recv(source=source) == "fine"
    request.wait()


@pytest.mark.parametrize("mode", ["send", "ssend", "sendrecv"])
def test_large_arrays_of_an_object_are_sent_from_where_they_are(comm, mode):
    """No copy of them is made: the peak of the sender's memory stays below one of them."""
    import tracemalloc

    dest, source = ring_of(comm)
    nbytes = 4 << 20
    arrays = [np.full(nbytes // 8, float(comm.rank)), np.arange(nbytes // 4, dtype="i4")]
    obj = {"rank": comm.rank, "arrays": arrays, "small": np.arange(10)}
    receive = None if mode == "sendrecv" else comm.irecv(source=source, tag=3)
    tracemalloc.start()
    try:
        if mode == "sendrecv":
            got = comm.sendrecv(obj, dest, 3, source=source, recvtag=3)
        elif comm.size > 1 or mode == "send":
            getattr(comm, mode)(obj, dest, 3)
        else:
            comm.isend(obj, dest, 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if receive is not None:
        got = receive.wait()
    assert got["rank"] == source
    assert np.array_equal(got["arrays"][0], np.full(nbytes // 8, float(source)))
    assert np.array_equal(got["arrays"][1], arrays[1])
    assert np.array_equal(got["small"], np.arange(10))
    if comm.size > 1:
        assert peak < nbytes


def test_an_object_of_many_large_arrays_arrives_whole(comm):
    dest, source = ring_of(comm)
    obj = [np.full(n, comm.rank, "u1") for n in range(3000, 3200)] + [b"x" * 300_000, 1]
    got = comm.sendrecv(obj, dest, 3, source=source, recvtag=3)
    for n, array in zip(range(3000, 3200), got, strict=False):
        assert np.array_equal(array, np.full(n, source, "u1"))
    assert got[-2:] == obj[-2:]


class Custom:
    """Pickled with a buffer of its own beside other things."""

    def __init__(self, array, name):
        self.array, self.name = array, name

    def __eq__(self, other):
        return self.name == other.name and (self.array == other.array).all()

    __hash__ = None


SIZED = {
    "array": lambda n: np.arange(float(n)),
    "dictionary": lambda n: {"a": np.arange(float(n)), "b": [1, "two"]},
    "arrays": lambda n: [np.full(n, 1.0), np.full(n, 2.0), np.arange(3)],
    "object": lambda n: Custom(np.arange(n), "name"),
    "bytes": lambda n: b"x" * n,
}


@pytest.mark.parametrize("count", [10, 32_768, 100_000, 1_000_000])
@pytest.mark.parametrize("name", SIZED)
def test_the_bytes_of_an_object_are_its_pickle_at_every_size(comm, name, count):
    dest, source = ring_of(comm)
    obj = SIZED[name](count)

    def same(again):
        np.testing.assert_equal(again, obj)

    for start in (comm.isend, comm.issend):
        request = start(obj, dest, 1)
        status = MPI.Status()
        comm.Probe(source, 1, status)
        raw = bytearray(status.Get_count(MPI.BYTE))
        comm.Recv([raw, MPI.BYTE], source, 1)
        request.wait()
        same(pickle.loads(raw))  # noqa: S301
        same(MPI.pickle.loads(raw))
    room = len(MPI.pickle.dumps(obj))
    requests = [comm.irecv(bytearray(room), source, 2), comm.irecv(room, source, 2)]
    send = comm.isend(obj, dest, 2)
    comm.send(obj, dest, 2)
    send.wait()
    for request in requests:
        same(request.wait())
    request = comm.Isend(pickle.dumps(obj, 5), dest, 3)
    same(comm.recv(source=source, tag=3))
    request.Wait()


@pytest.mark.parametrize("count", [10, 100_000])
def test_an_array_that_was_received_into_a_buffer_can_be_written(comm, count):
    dest, source = ring_of(comm)
    request = comm.irecv(2_000_000, source, 3)
    comm.send(np.zeros(count), dest, 3)
    array = request.wait()
    array[0] = 1
    assert array[0] == 1
