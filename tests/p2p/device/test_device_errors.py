"""What cannot be sent from a GPU or received into it is refused by name, and all else goes on."""

from __future__ import annotations

import fake_cuda
import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of

pytestmark = pytest.mark.ours

INVALID_HANDLE = 400


class Shown:
    """An array whose interface a test may change."""

    def __init__(self, array, **changes):
        self.array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__ | changes


def messages_travel(comm, made, size=5000):
    right, left = ring_of(comm)
    into = made(size).set(255)
    comm.Sendrecv(made(size).set(pattern(size, comm.rank)), right, 5, into, left, 5)
    assert is_pattern(into.get(), left)


def refused(error, words, call, *arguments, code=None):
    with pytest.raises(error, match=words) as caught:
        call(*arguments)
    if code is not None:
        assert caught.value.Get_error_class() == code


@pytest.mark.fake
@pytest.mark.parametrize("spec", [lambda a: a, lambda a: [a, 5, MPI.BYTE]], ids=["array", "spec"])
def test_memory_that_was_freed(comm, made, spec):
    array = fake_cuda.array(100, "u1")
    freed = array[:]
    array.free()
    for call, name in ((comm.Send, "send"), (comm.Isend, "send"), (comm.Irecv, "receive")):
        words = rf"the {name} buffer \(fake_cuda.Array\): "
        refused(MPI.Exception, words, call, spec(freed), comm.rank, code=MPI.ERR_BUFFER)
    messages_travel(comm, made)


def test_memory_that_ends_too_early(comm, made):
    longer = Shown(made(5000), shape=(5000 << 20,))
    refused(
        MPI.Exception, "more than their alloc", comm.Send, longer, comm.rank, code=MPI.ERR_BUFFER
    )
    messages_travel(comm, made)


@pytest.mark.parametrize(
    ("error", "words", "changes"),
    [
        (BufferError, "not contiguous: pass a contiguous copy", {"strides": (16,)}),
        (BufferError, "masked", {"mask": np.zeros(3)}),
        (BufferError, "byte order", {"typestr": ">f8"}),
        (TypeError, "shape must be a tuple", {"shape": [3]}),
        (BufferError, "negative length", {"shape": (-3,)}),
    ],
)
def test_an_array_that_is_not_plain(comm, made, error, words, changes):
    shown = Shown(made(4, "f8"), **changes)
    refused(error, words, comm.Send, shown, comm.rank)
    refused(error, words, comm.Irecv, shown, comm.rank)


def test_an_array_that_is_not_to_be_written(comm, made):
    array = made(1000).set(pattern(1000, 3))
    constant = Shown(array, data=(array.ptr, True))
    refused(BufferError, "read-only", comm.Irecv, constant, comm.rank)
    into = made(1000)
    comm.Sendrecv(constant, comm.rank, 0, into, comm.rank, 0)
    assert is_pattern(into.get(), 3)


def test_columns_are_sent_from_where_they_lie_and_slices_are_not(comm, made):
    array = made((3, 4), "f8").set(np.arange(12.0).reshape(3, 4))
    into = made(12, "f8")
    comm.Sendrecv(Shown(array, shape=(4, 3), strides=(8, 32)), comm.rank, 0, into, comm.rank, 0)
    assert into.get().tolist() == list(range(12))
    refused(
        BufferError, "not contiguous", comm.Send, Shown(array, shape=(3, 2), strides=(32, 16)), 0
    )


def test_an_element_that_mpi_does_not_know_is_bytes(comm, made):
    """As bfloat16, which NumPy has no word for."""
    array = made(6, "u2").set(np.arange(6))
    status = MPI.Status()
    into = made(6, "u2").set(0)
    send = comm.Isend([Shown(array, typestr="|V2"), 8], comm.rank)
    comm.Recv(Shown(into, typestr="|V2"), comm.rank, 0, status)
    send.Wait()
    assert status.Get_count(MPI.BYTE) == 8
    assert into.get().tolist() == [0, 1, 2, 3, 0, 0]


@pytest.mark.parametrize("count", [11, (6, 5)])
def test_a_count_that_the_array_does_not_have(comm, made, count):
    array = made(20, "f8")[:10]
    refused(ValueError, "too small|beyond|out of bounds", comm.Send, [array, count, MPI.DOUBLE], 0)


def test_a_datatype_with_gaps(comm, made):
    every_second = MPI.DOUBLE.Create_indexed_block(1, [0, 2, 5]).Commit()
    array = made(6, "f8")
    words = "no datatype with gaps but a vector is packed: pass a contiguous array"
    refused(BufferError, words, comm.Send, [array, 1, every_second], comm.rank)
    refused(BufferError, words, comm.Irecv, [array, 1, every_second], comm.rank)
    every_second.Free()


def test_partitioned_messages(comm, made):
    array = made(6, "f8")
    words = "partitioned messages do not take"
    refused(MPI.Exception, words, comm.Psend_init, array, 2, comm.rank, code=MPI.ERR_BUFFER)
    refused(MPI.Exception, words, comm.Precv_init, array, 2, comm.rank, 0, code=MPI.ERR_BUFFER)


@pytest.mark.fake
@pytest.mark.parametrize("function", ["cuPointerGetAttributes", "cuStreamIsCapturing"])
@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("call", ["Send", "Isend", "Recv", "Irecv", "Bsend"])
def test_a_driver_that_fails(comm, made, attached, function, skip, call):
    """At any of its calls: the operation fails or succeeds, and the next one succeeds."""

    def started():
        request = getattr(comm, call)(array, comm.rank, 1)
        return MPI.REQUEST_NULL if request is None else request

    array = made(100)
    if call in ("Recv", "Irecv"):
        arriving = comm.Isend(np.zeros(100, "u1"), comm.rank, 1)
    else:
        arriving = comm.Irecv(np.zeros(100, "u1"), comm.rank, 1)
    fake_cuda.fail(function, INVALID_HANDLE, skip=skip)
    try:
        request = started()
    except MPI.Exception as error:
        code = error.Get_error_class()
        request = started()
    else:
        code = MPI.ERR_BUFFER
    assert code == MPI.ERR_BUFFER
    fake_cuda.fail(function, INVALID_HANDLE, times=0)
    request.Wait()
    arriving.Wait()
    messages_travel(comm, made)


@pytest.mark.fake
def test_a_matched_message_stays_when_its_receive_cannot_be_made(comm, made):
    send = comm.Isend(pattern(5000, 3), comm.rank, 1)
    message = comm.Mprobe(comm.rank, 1)
    into = made(5000)
    fake_cuda.fail("cuStreamIsCapturing", INVALID_HANDLE)
    refused(MPI.Exception, "invalid", message.Recv, into, code=MPI.ERR_BUFFER)
    message.Recv(into)
    send.Wait()
    assert is_pattern(into.get(), 3)


@pytest.mark.fake
def test_a_call_that_sends_and_receives_takes_its_receive_back(comm, made):
    out, into = fake_cuda.array(100, "u1"), made(100).set(7)
    freed = out[:]
    out.free()
    refused(
        MPI.Exception, "the send buffer", comm.Sendrecv, freed, comm.rank, 1, into, comm.rank, 1
    )
    refused(
        MPI.Exception, "the receive buffer", comm.Sendrecv, into, comm.rank, 1, freed, comm.rank, 1
    )
    fake_cuda.fail("cuStreamIsCapturing", INVALID_HANDLE, skip=1)  # of the send, after the receive
    refused(MPI.Exception, "invalid", comm.Sendrecv, made(100), comm.rank, 1, into, comm.rank, 1)
    messages_travel(comm, made, 100)
    assert (into.get() == 7).all()


COLLECTIVES = {
    "Bcast": lambda comm, gpu, host: comm.Bcast(gpu),
    "Bcast, by name": lambda comm, gpu, host: comm.Bcast(buf=[gpu, MPI.DOUBLE]),
    "Allreduce": lambda comm, gpu, host: comm.Allreduce(gpu, host),
    "Allreduce, in place": lambda comm, gpu, host: comm.Allreduce(MPI.IN_PLACE, gpu),
    "Iallreduce": lambda comm, gpu, host: comm.Iallreduce([host, MPI.DOUBLE], [gpu, MPI.DOUBLE]),
    "Gather": lambda comm, gpu, host: comm.Gather(gpu, None, comm.size - 1),
    "Gatherv": lambda comm, gpu, host: comm.Gatherv(host, [gpu, [1] * comm.size]),
    "Alltoallw": lambda comm, gpu, host: comm.Alltoallw(
        [gpu, [1] * comm.size, [0] * comm.size, [MPI.DOUBLE] * comm.size], host
    ),
    "Scan": lambda comm, gpu, host: comm.Scan(host, gpu),
    "Exscan": lambda comm, gpu, host: comm.Exscan(gpu, host),
    "through the class": MPI.Comm.Allreduce,
    "Neighbor_allgather": lambda comm, gpu, host: comm.Create_cart([comm.size]).Neighbor_allgather(
        gpu, host
    ),
}


@pytest.mark.parametrize("call", COLLECTIVES.values(), ids=COLLECTIVES)
def test_a_collective_of_a_library_that_does_not_know_cuda(comm, made, call):
    gpu, host = made(16, "f8"), np.zeros(16)
    refused(RuntimeError, "not CUDA-aware: copy to the host first", call, comm, gpu, host)


def test_collectives_of_the_host_s_memory_are_the_library_s(comm):
    total = np.zeros(2)
    comm.Allreduce(np.ones(2), total)
    assert total.tolist() == [comm.size] * 2
    comm.Iallreduce(sendbuf=[np.ones(2), MPI.DOUBLE], recvbuf=total).Wait()
    assert total.tolist() == [comm.size] * 2
    data = bytearray([comm.rank] * 3)
    comm.Bcast([data, 3, MPI.BYTE], root=0)
    assert data == bytearray(3)


@pytest.mark.fake
@pytest.mark.parametrize("size", [100, 400_000])
@pytest.mark.parametrize("of_receiver", [False, True])
def test_a_device_that_does_not_copy(comm, made, size, of_receiver):
    """Both sides hear of it, and nobody waits for what will never come."""
    right, left = ring_of(comm)
    array, host = made(size), np.zeros(size, "u1")
    fake_cuda.fail("cuMemcpyAsync", INVALID_HANDLE, times=-1)
    receive = comm.Irecv(array if of_receiver else host, left, 1)
    send = comm.Isend(host if of_receiver else array, right, 1)
    if not of_receiver:
        refused(MPI.Exception, "failed", send.Wait, code=MPI.ERR_BUFFER)
    refused(MPI.Exception, "failed", receive.Wait)
    if of_receiver:
        send.Wait()
    quiet_barrier()
    fake_cuda.fail("cuMemcpyAsync", INVALID_HANDLE, times=0)
    quiet_barrier()
    messages_travel(comm, made)
