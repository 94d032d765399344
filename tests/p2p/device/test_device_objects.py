"""Arrays of GPUs in objects go from GPU to GPU, beside the pickle stream."""

from __future__ import annotations

import pickle
import sys
import zlib
from pathlib import Path

import fake_cuda
import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, ring_of, wait_until

import mooncake_mpi
from mooncake_mpi import _native
from mooncake_mpi.errors import make_error
from mooncake_mpi.objects import gpu_receives

pytestmark = pytest.mark.ours

STAND_IN = Path(__file__).parents[2] / "gpu" / "stand_in"


@pytest.fixture(scope="module")
def cupy():
    """CuPy, or what stands in for it."""
    sys.path.append(str(STAND_IN))
    module = pytest.importorskip("cupy")
    sys.path.remove(str(STAND_IN))
    module.cuda.Device(0).use()
    return module


@pytest.fixture
def no_copies(cupy, monkeypatch):
    """No array comes to the host by CuPy."""
    if cupy.__version__ == "stand-in":
        monkeypatch.delattr(cupy.ndarray, "__reduce__")


def messages_of_gpus(comm, rank):
    """How many of them went to a rank."""
    sent = mooncake_mpi.transfers(comm)[rank].sent
    return sum(
        sent[path].messages
        for path in ("push", "pull", "kernel", "staged", "parked")
        if path in sent
    )


def exchanged(comm, send, obj):
    """What comes from the left when all send to the right."""
    right, left = ring_of(comm)
    if send == "sendrecv":
        return comm.sendrecv(obj, right, 1, None, left, 1)
    request = comm.irecv(source=left, tag=1)
    sent = getattr(comm, send)(obj, right, 1)
    received = request.wait()
    if sent is not None:
        sent.wait()
    return received


@pytest.mark.usefixtures("no_copies")
@pytest.mark.parametrize("nbytes", [8, 100_000, 1_100_000])
@pytest.mark.parametrize("send", ["send", "isend", "ssend", "issend", "sendrecv"])
def test_an_array_stays_on_gpus(comm, cupy, send, nbytes):
    if comm.size == 1 and send in {"send", "ssend"}:
        return
    right, left = ring_of(comm)
    obj = {"x": cupy.array(pattern(nbytes, comm.rank)), "of": comm.rank, "host": np.arange(9)}
    before = messages_of_gpus(comm, right)
    if send in {"send", "ssend"}:
        parts = [lambda: getattr(comm, send)(obj, right, 1), lambda: comm.recv(source=left, tag=1)]
        done = [part() for part in (parts if comm.rank % 2 == 0 else parts[::-1])]
        got = done[comm.rank % 2 == 0]
    else:
        got = exchanged(comm, send, obj)
    assert type(got["x"]) is cupy.ndarray
    assert is_pattern(got["x"].get(), left)
    assert got["of"] == left
    assert got["host"].tolist() == list(range(9))
    # Of a small one the sender hears later that it was received.
    wait_until(lambda: comm.Iprobe() or messages_of_gpus(comm, right) == before + 1)


@pytest.mark.usefixtures("no_copies")
def test_many_arrays_keep_their_places_shapes_and_types(comm, cupy):
    _, left = ring_of(comm)
    made = [
        cupy.array(np.full((index % 3, 5), index + comm.rank, dtype))
        for index, dtype in enumerate(["f4", "i2", "c16", "u1", "f8"] * 8)
    ]
    large = np.arange(200_000) + comm.rank  # a buffer of the host beside them
    got, again, numbers = exchanged(comm, "isend", (made, made[1], large))
    for index, (array, expected) in enumerate(zip(got, made, strict=True)):
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
        assert (array.get() == index + left).all()
    assert again is got[1]
    assert numbers.tolist() == (np.arange(200_000) + left).tolist()


@pytest.mark.usefixtures("no_copies")
def test_an_array_by_columns_arrives_by_columns(comm, cupy):
    _, left = ring_of(comm)
    array = cupy.array(np.arange(12.0).reshape(3, 4) + comm.rank).T
    for send in ("isend", "sendrecv"):
        got = exchanged(comm, send, array)
        assert got.flags.f_contiguous
        assert not got.flags.c_contiguous
        assert (got.get() == (np.arange(12.0).reshape(3, 4) + left).T).all()


def test_what_isend_was_given_may_be_changed_at_once(comm, cupy):
    right, left = ring_of(comm)
    array = cupy.array(pattern(300_000, comm.rank))
    request = comm.isend(array, right, 1)
    array.set(np.zeros(300_000, "u1"))
    assert is_pattern(comm.recv(source=left, tag=1).get(), left)
    request.wait()


def test_what_is_sent_buffered_goes_by_the_host(comm, cupy, attached):
    right, left = ring_of(comm)
    before = messages_of_gpus(comm, right)
    comm.bsend(cupy.array(pattern(5000, comm.rank)), right, 1)
    assert is_pattern(comm.recv(source=left, tag=1).get(), left)
    assert messages_of_gpus(comm, right) == before


def test_an_array_elsewhere_pickles_itself(cupy):
    array = cupy.array(pattern(5000, 1))
    assert is_pattern(pickle.loads(pickle.dumps(array)).get(), 1)  # noqa: S301


def test_the_rest_of_a_program_finds_the_stream_in_its_place(comm, cupy):
    """A matched probe takes it, and who receives its bytes loads them, once."""
    right, left = ring_of(comm)
    requests = [comm.isend(cupy.array(pattern(5000, comm.rank)), right, 1) for _ in range(3)]
    assert is_pattern(comm.mprobe(left, 1).recv().get(), left)
    assert is_pattern(comm.mprobe(left, 1).irecv().wait().get(), left)
    status = MPI.Status()
    comm.Probe(left, 1, status)
    stream = bytearray(status.Get_count(MPI.BYTE))
    comm.Recv(stream, left, 1)
    assert is_pattern(pickle.loads(stream).get(), left)  # noqa: S301
    with pytest.raises(RuntimeError, match=f"from rank {left}.*can be loaded once"):
        pickle.loads(stream)  # noqa: S301
    MPI.Request.waitall(requests)


@pytest.mark.fake
def test_where_no_array_can_be_made_the_error_says_so_and_the_sender_goes_on(
    comm, cupy, monkeypatch
):
    right, left = ring_of(comm)
    for nbytes in (100, 1_100_000):
        request = comm.isend([cupy.array(pattern(nbytes, comm.rank))] * 2, right, 1)

        def refuse(_nbytes):
            raise ImportError("no CuPy for a test")

        with monkeypatch.context() as patch:
            patch.setattr(cupy.cuda, "alloc", refuse)
            with pytest.raises(RuntimeError, match=f"rank {left} has arrays of cupy.*for a test"):
                comm.recv(source=left, tag=1)
        request.wait()
    assert exchanged(comm, "isend", "on") == "on"


def test_an_error_of_a_receive_is_raised_as_it_is(comm, cupy, monkeypatch):
    right, left = ring_of(comm)
    request = comm.isend([cupy.array(pattern(5000, comm.rank)) for _ in range(3)], right, 1)
    receive, calls = _native.message_post_recv, []

    def fail_once(message, buf):
        calls.append(message)
        if len(calls) == 2:
            raise make_error("ERR_BUFFER", "refused for a test")
        return receive(message, buf)

    with monkeypatch.context() as patch:
        patch.setattr(_native, "message_post_recv", fail_once)
        with pytest.raises(MPI.Exception, match="refused for a test"):
            comm.recv(source=left, tag=1)
    request.wait()
    assert not gpu_receives._arriving


def test_an_object_that_cannot_be_made_leaves_no_arrays(comm, cupy):
    right, left = ring_of(comm)
    for receive in (
        lambda: comm.recv(source=left, tag=1),
        lambda: comm.irecv(source=left, tag=1).wait(),
    ):
        request = comm.isend([cupy.array(pattern(5000, comm.rank)), Unwilling()], right, 1)
        with pytest.raises(ValueError, match="unwilling"):
            receive()
        request.wait()
    assert not gpu_receives._arriving


class Unwilling:
    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise ValueError("unwilling")


def test_an_interrupted_receive_may_be_repeated(comm, cupy, monkeypatch):
    right, left = ring_of(comm)
    request = comm.isend([cupy.array(pattern(5000, comm.rank)), Interrupting()], right, 1)
    monkeypatch.setattr(Interrupting, "interrupts", True)
    with pytest.raises(KeyboardInterrupt):
        comm.recv(source=left, tag=1)
    monkeypatch.setattr(Interrupting, "interrupts", False)
    assert is_pattern(comm.recv(source=left, tag=1)[0].get(), left)
    request.wait()


class Interrupting:
    interrupts = False

    def __reduce__(self):
        return _interrupt, ()


def _interrupt():
    if Interrupting.interrupts:
        raise KeyboardInterrupt


def test_picklers_of_the_users_own(comm, cupy):
    _, left = ring_of(comm)
    known = (MPI.pickle.dumps, MPI.pickle.loads, MPI.pickle.PROTOCOL)
    packs = {
        "compresses": (
            lambda obj: zlib.compress(pickle.dumps(obj)),
            lambda data: pickle.loads(zlib.decompress(data)),  # noqa: S301
        ),
        "takes no buffers": (lambda obj: pickle.dumps(obj, 5), pickle.loads),
        "old": (lambda obj: pickle.dumps(obj, 0), pickle.loads),
    }
    try:
        for dumps, loads in packs.values():
            MPI.pickle.__init__(dumps, loads)
            got, large = exchanged(
                comm, "isend", (cupy.array(pattern(5000, comm.rank)), np.arange(70_000))
            )
            assert is_pattern(got.get(), left)
            assert large.sum() == sum(range(70_000))
    finally:
        MPI.pickle.__init__(None, None, known[2])


@pytest.mark.fake
def test_an_array_waits_for_its_stream(comm, cupy):
    right, left = ring_of(comm)
    stream = cupy.cuda.Stream(non_blocking=True)
    library = fake_cuda.library()
    with stream:
        array = cupy.array(np.zeros(5000, "u1"))
        source = cupy.array(pattern(5000, comm.rank))
        library.fake_cuda_hold(stream.ptr, 1)
        array[...] = source
        request = comm.isend(array, right, 1)
    library.fake_cuda_hold(stream.ptr, 0)
    assert is_pattern(comm.recv(source=left, tag=1).get(), left)
    request.wait()
