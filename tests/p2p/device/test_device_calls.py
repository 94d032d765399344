"""Every call that takes a buffer takes an array of a GPU."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest
from arrays import PAIRS, content, filled, fresh, put
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of

pytestmark = pytest.mark.ours

SIZES = [40, 6000, 400_000]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request):
    return request.param


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["Isend", "Issend", "Ibsend", "Irsend"])
def test_every_mode_of_a_non_blocking_send(comm, made, attached, pair, size, mode):
    right, left = ring_of(comm)
    out, into = filled(made, size, pair[0], comm.rank), fresh(made, size, pair[1])
    receive = comm.Irecv(into, left, 1)
    quiet_barrier()
    send = getattr(comm, mode)(out, right, 1)
    if mode == "Ibsend":
        put(out, 0)  # it keeps a copy
    MPI.Request.Waitall([send, receive])
    assert is_pattern(content(into), left)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["Send", "Ssend", "Bsend", "Rsend"])
def test_every_mode_of_a_blocking_send(comm, made, attached, pair, size, mode):
    right, left = ring_of(comm)
    out, into = filled(made, size, pair[0], comm.rank), fresh(made, size, pair[1])
    receive = comm.Irecv(into, left, 1)
    quiet_barrier()
    getattr(comm, mode)(out, right, 1)
    put(out, 0)
    receive.Wait()
    assert is_pattern(content(into), left)


@pytest.mark.parametrize("size", SIZES)
def test_sends_and_receives_at_once(comm, made, pair, size):
    right, left = ring_of(comm)
    out, into = filled(made, size, pair[0], comm.rank), fresh(made, size, pair[1])
    comm.Sendrecv(out, right, 1, into, left, 1)
    assert is_pattern(content(into), left)
    put(into, 255)
    comm.Isendrecv(out, right, 2, into, left, 2).Wait()
    assert is_pattern(content(into), left)


@pytest.mark.parametrize("size", SIZES)
def test_a_buffer_is_replaced(comm, made, size):
    right, left = ring_of(comm)
    array = filled(made, size, "device", comm.rank)
    comm.Sendrecv_replace(array, right, 1, left, 1)
    assert is_pattern(array.get(), left)
    comm.Isendrecv_replace(array, left, 1, right, 1).Wait()
    assert is_pattern(array.get(), comm.rank)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("start", ["Send_init", "Ssend_init", "Bsend_init", "Rsend_init"])
def test_persistent_requests(comm, made, attached, pair, size, start):
    right, left = ring_of(comm)
    out, into = fresh(made, size, pair[0]), fresh(made, size, pair[1])
    send, receive = getattr(comm, start)(out, right, 1), comm.Recv_init(into, left, 1)
    for turn in range(3):
        put(out, pattern(size, comm.rank + turn))
        put(into, 255)
        receive.Start()
        quiet_barrier()
        send.Start()
        MPI.Request.Waitall([send, receive])
        assert is_pattern(content(into), left + turn)
    send.Free()
    receive.Free()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("blocking", [True, False])
def test_a_matched_message(comm, made, pair, size, blocking):
    right, left = ring_of(comm)
    out, into = filled(made, size, pair[0], comm.rank), fresh(made, size, pair[1])
    send = comm.Isend(out, right, 1)
    status = MPI.Status()
    message = comm.Mprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status)
    assert (status.source, status.tag, status.Get_count(MPI.BYTE)) == (left, 1, size)
    if blocking:
        message.Recv(into)
    else:
        message.Irecv(into).Wait()
    send.Wait()
    assert is_pattern(content(into), left)


@pytest.mark.parametrize("size", SIZES)
def test_a_message_is_probed_and_received_by_wildcards(comm, made, pair, size):
    right, left = ring_of(comm)
    out, into = filled(made, size, pair[0], comm.rank), fresh(made, size, pair[1])
    send = comm.Isend(out, right, 9)
    status = MPI.Status()
    comm.Probe(MPI.ANY_SOURCE, MPI.ANY_TAG, status)
    assert (status.source, status.tag, status.Get_count(MPI.BYTE)) == (left, 9, size)
    comm.Recv(into, MPI.ANY_SOURCE, MPI.ANY_TAG, status)
    assert (status.source, status.tag, status.Get_count(MPI.BYTE)) == (left, 9, size)
    send.Wait()
    assert is_pattern(content(into), left)


@pytest.mark.parametrize("size", SIZES)
def test_a_message_to_oneself(comm, made, pair, size):
    out, into = filled(made, size, pair[0], 3), fresh(made, size, pair[1])
    send = comm.Isend(out, comm.rank, 1)
    comm.Recv(into, comm.rank, 1)
    send.Wait()
    assert is_pattern(content(into), 3)
    put(into, 255)
    receive = comm.Irecv(into, comm.rank, 1)
    comm.Send(out, comm.rank, 1)
    receive.Wait()
    assert is_pattern(content(into), 3)


def test_proc_null_and_a_receive_that_is_cancelled(comm, made):
    array = made(1000).set(7)
    comm.Send(array, MPI.PROC_NULL)
    comm.Recv(array, MPI.PROC_NULL)
    comm.Isend(array, MPI.PROC_NULL).Wait()
    receive = comm.Irecv(array, comm.rank, 1)
    receive.Cancel()
    status = MPI.Status()
    receive.Wait(status)
    assert status.Is_cancelled()
    assert (array.get() == 7).all()


SPECIFICATIONS = {
    "count": lambda array: [array, 6],
    "datatype": lambda array: [array[:6], MPI.DOUBLE],
    "type code": lambda array: [array[:6], "d"],
    "count and datatype": lambda array: (array, 6, MPI.DOUBLE),
    "count in bytes": lambda array: [array, 48, MPI.BYTE],
    "displacement": lambda array: [array, (6, 0), MPI.DOUBLE],
    "four items": lambda array: [array, 6, 0, MPI.DOUBLE],
}


@pytest.mark.parametrize("spec", SPECIFICATIONS.values(), ids=SPECIFICATIONS)
def test_every_form_of_a_specification(comm, made, spec):
    right, left = ring_of(comm)
    out, into = made(10, "f8").set(np.arange(10.0) + comm.rank), made(10, "f8").set(-1)
    for _ in range(2):  # the second time the bindings know the datatype
        send = comm.Isend(spec(out), right, 1)
        comm.Recv(spec(into), left, 1)
        send.Wait()
        assert into.get().tolist() == [*(np.arange(6.0) + left), *[-1] * 4]
        into.set(-1)


def test_a_displacement_is_in_elements(comm, made):
    right, left = ring_of(comm)
    out, into = made(10, "i4").set(np.arange(10) + comm.rank), made(10, "i4").set(-1)
    send = comm.Isend([out, (3, 5)], right, 1)
    comm.Recv([into, 3, 2, MPI.INT], left, 1)
    send.Wait()
    assert into.get()[2:5].tolist() == (np.arange(5, 8) + left).tolist()
    assert (into.get()[[0, 1, 5, 9]] == -1).all()


def test_a_datatype_without_gaps_is_sent_from_where_it_lies(comm, made):
    pairs = MPI.DOUBLE.Create_contiguous(2).Commit()
    right, left = ring_of(comm)
    out, into = made(8, "f8").set(np.arange(8.0) + comm.rank), made(8, "f8").set(-1)
    send = comm.Isend([out, 4, pairs], right, 1)
    comm.Recv([into, 4, pairs], left, 1)
    send.Wait()
    pairs.Free()
    assert into.get().tolist() == (np.arange(8.0) + left).tolist()


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"])
def test_arrays_of_every_type_and_shape(comm, made, dtype):
    right, left = ring_of(comm)
    for shape in [(), (1,), (0, 3), (3, 1, 5)]:
        out, into = made(shape, dtype).set(comm.rank % 2), made(shape, dtype).set(0)
        send = comm.Isend(out, right, 1)
        comm.Recv(into, left, 1)
        send.Wait()
        assert np.array_equal(into.get(), np.full(shape, left % 2, dtype))


def test_objects_go_by_the_host(comm, made):
    class Array:
        """Pickles itself as libraries of GPU arrays do: by a copy on the host."""

        def __init__(self, array):
            self.array = array

        def __reduce__(self):
            return np.array, (self.array.get(),)

    right, left = ring_of(comm)
    request = comm.isend({"x": Array(filled(made, 5000, "device", comm.rank))}, right, 1)
    assert is_pattern(comm.recv(source=left, tag=1)["x"], left)
    request.wait()


def test_an_object_is_not_unpickled_from_a_gpu(comm, made):
    right, left = ring_of(comm)
    request = comm.isend([1, 2, comm.rank], right, 1)
    assert comm.irecv(made(1000), left, 1).wait() == [1, 2, left]
    request.wait()
    request = comm.isend([1, 2, comm.rank], right, 1)
    with pytest.warns(UserWarning, match="deprecated"):
        assert comm.recv(made(1000), left, 1) == [1, 2, left]
    request.wait()


def test_a_stream_of_pickle_is_received_into_a_gpu(comm, made):
    right, left = ring_of(comm)
    into = made(1000).set(0)
    status = MPI.Status()
    request = comm.isend("text", right, 1)
    comm.Recv(into, left, 1, status)
    request.wait()
    data = into.get()[: status.Get_count(MPI.BYTE)].tobytes()
    assert MPI.pickle.loads(data) == "text"


def test_an_array_lives_as_long_as_its_message(comm, made):
    right, left = ring_of(comm)
    alive = []

    class Watched:
        def __init__(self, array):
            self.array = array

        @property
        def __cuda_array_interface__(self):
            return self.array.__cuda_array_interface__

        def __del__(self):
            alive.remove(id(self))

    watched = Watched(filled(made, 400_000, "device", comm.rank))
    alive.append(id(watched))
    request = comm.Issend(watched, right, 1)
    del watched
    gc.collect()
    assert alive
    into = fresh(made, 400_000, "device")
    comm.Recv(into, left, 1)
    request.Wait()
    del request
    gc.collect()
    assert not alive
    assert is_pattern(into.get(), left)


@pytest.mark.parametrize("size", [1, 8000, 65536])
def test_everybody_may_send_a_little_before_anybody_receives(comm, made, size):
    if os.environ.get("MOONCAKE_MPI_PROGRESS_THREAD") == "0":
        return  # then nobody would deliver what is parked
    right, left = ring_of(comm)
    outs = [filled(made, size, "device", comm.rank + i) for i in range(3)]
    for out in outs:
        comm.Send(out, right, 1)
        put(out, 0)
    request = comm.Isend(outs[0], right, 2)
    request.Wait()
    quiet_barrier()
    for i in range(3):
        into = fresh(made, size, "device")
        comm.Recv(into, left, 1)
        assert is_pattern(content(into), left + i)
    comm.Recv(fresh(made, size, "device"), left, 2)
    # What is parked is delivered by its sender, which may have no thread for that.
    comm.send(None, left, 3)
    comm.recv(None, right, 3)


def test_a_synchronous_send_waits_for_its_receive(comm, made):
    right, left = ring_of(comm)
    send = comm.Issend(filled(made, 1000, "device", comm.rank), right, 1)
    for _ in range(50):  # longer than it takes to park one that is not synchronous
        assert not send.Test()
    quiet_barrier()
    comm.Recv(fresh(made, 1000, "device"), left, 1)
    send.Wait()


def test_an_array_that_has_a_buffer_protocol_too_is_the_gpus(comm, made):
    class Both(bytearray):  # as CuPy's are, whose buffer protocol refuses
        def __init__(self, array):
            super().__init__(b"not these bytes")
            self.array = array

        @property
        def __cuda_array_interface__(self):
            return self.array.__cuda_array_interface__

    right, left = ring_of(comm)
    out, into = filled(made, 5000, "device", comm.rank), fresh(made, 5000, "device")
    request = comm.Irecv(Both(into), left, 1)
    comm.Send(Both(out), right, 1)
    request.Wait()
    assert is_pattern(content(into), left)
