"""A signal's handler raises while a message is unpacked into a scattered datatype."""

from __future__ import annotations

import gc
import signal

import numpy as np
import pytest

from mooncake_mpi import MPI
from mooncake_mpi.buffers.packing import PackedBuffer

TAG = 7


@pytest.fixture
def comm():
    comm = MPI.COMM_SELF.Dup()
    yield comm
    comm.Free()


@pytest.fixture
def every_second():
    datatype = MPI.INT.Create_vector(4, 1, 2).Commit()
    yield datatype
    datatype.Free()


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C comes with the next unpacking, once."""
    unpack_range = PackedBuffer.unpack_range

    def leave(self, first, end):
        monkeypatch.setattr(PackedBuffer, "unpack_range", unpack_range)
        signal.raise_signal(signal.SIGINT)
        unpack_range(self, first, end)

    return lambda: monkeypatch.setattr(PackedBuffer, "unpack_range", leave)


def data(first=0):
    return np.arange(first, first + 4, dtype="i")


BLOCKING = {
    "Recv": lambda comm, spec: comm.Recv(spec, 0, TAG),
    "Recv with a status": lambda comm, spec: comm.Recv(spec, status=MPI.Status()),
    "Sendrecv": lambda comm, spec: comm.Sendrecv(data(), MPI.PROC_NULL, 0, spec, 0, TAG),
    "Sendrecv_replace": lambda comm, spec: comm.Sendrecv_replace(spec, MPI.PROC_NULL, 0, 0, TAG),
    "matched": lambda comm, spec: comm.Mprobe(0, TAG).Recv(spec),
}


@pytest.mark.parametrize("receive", BLOCKING.values(), ids=BLOCKING)
def test_a_blocking_receive_leaves_the_message_in_the_queue(
    comm, every_second, interrupted, receive
):
    sends = [comm.Isend(data(), 0, TAG), comm.Isend(data(10), 0, TAG)]
    into = np.full(8, -1, "i")
    interrupted()
    with pytest.raises(KeyboardInterrupt):
        receive(comm, [into, 1, every_second])
    for first in (0, 10):
        status = MPI.Status()
        comm.Recv([into, 1, every_second], status=status)
        assert (status.source, status.tag, status.Get_count(MPI.INT)) == (0, TAG, 4)
        assert into.tolist() == [first, -1, first + 1, -1, first + 2, -1, first + 3, -1]
    MPI.Request.Waitall(sends)


def persistent(comm, spec):
    request = comm.Recv_init(spec, 0, TAG)
    request.Start()
    return request


REQUESTS = {
    "Irecv": lambda comm, spec: comm.Irecv(spec, 0, TAG),
    "Recv_init": persistent,
    "Isendrecv": lambda comm, spec: comm.Isendrecv(data(), MPI.PROC_NULL, 0, spec, 0, TAG),
    "Isendrecv_replace": lambda comm, spec: comm.Isendrecv_replace(spec, MPI.PROC_NULL, 0, 0, TAG),
    "matched": lambda comm, spec: comm.Mprobe(0, TAG).Irecv(spec),
}
FILLED = [0, -1, 1, -1, 2, -1, 3, -1]


@pytest.mark.parametrize("post", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("end", ["Wait", "Test"])
def test_a_request_unpacks_again(comm, every_second, interrupted, post, end):
    send = comm.Isend(data(), 0, TAG)
    into = np.full(8, -1, "i")
    request = post(comm, [into, 1, every_second])
    interrupted()
    with pytest.raises(KeyboardInterrupt):
        getattr(request, end)()
    assert request
    status = MPI.Status()
    getattr(request, end)(status)
    assert (status.source, status.tag, status.Get_count(MPI.INT)) == (0, TAG, 4)
    assert into.tolist() == FILLED
    send.Wait()


def drop_and_wait(comm, requests):
    """The message comes to what has been dropped; nothing but an exception ends this."""
    requests.clear()
    gc.collect()
    comm.Send(data(), 0, TAG)
    comm.Recv(bytearray(1), 0, TAG + 1)


@pytest.mark.parametrize("post", REQUESTS.values(), ids=REQUESTS)
def test_a_dropped_request_unpacks_all_the_same(comm, every_second, interrupted, post):
    if post is REQUESTS["matched"]:
        comm.Isend(data(), 0, TAG).Wait()
    into = np.full(8, -1, "i")
    request = post(comm, [into, 1, every_second])
    interrupted()
    dropped = [request]
    del request
    with pytest.raises(KeyboardInterrupt):
        drop_and_wait(comm, dropped)
    assert into.tolist() == FILLED


def test_a_partition_is_unpacked_again(comm, every_second, interrupted):
    into = np.full(16, -1, "i")
    send = comm.Psend_init(np.arange(8, dtype="i"), 2, 0, TAG)
    receive = comm.Precv_init([into, 1, every_second], 2, 0, TAG)
    MPI.Prequest.Startall([receive, send])
    send.Pready_range(0, 1)
    interrupted()
    with pytest.raises(KeyboardInterrupt):
        receive.Wait()
    receive.Wait()
    assert into[[0, 2, 4, 6, 7, 9, 11, 13]].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    send.Wait()
    send.Free()
    receive.Free()
