"""A stream that waits for a message of a process that dies goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import fake_cuda


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("sends", [False, True])
def test_a_stream_that_waits_for_a_dead_rank_goes_on(survive, graph, sends):
    results = survive(
        2,
        f"""
sys.path.insert(0, {str(Path(fake_cuda.__file__).parent)!r})
import contextlib, fake_cuda
stream = fake_cuda.Stream(0)
large = np.zeros(3_000_000, "u1")
array = fake_cuda.array(3_000_000, "u1").set(7)
comm.Sendrecv(np.zeros(1), 1 - rank, 9, np.zeros(1), 1 - rank, 9)
if rank == 1:
    time.sleep(0.5)
    die()
captured = fake_cuda.Graph(stream) if {graph} else contextlib.nullcontext()
with captured:
    if {sends}:
        comm.Send_enqueue(large, 1, 5, stream=stream.handle)
    else:
        comm.Recv_enqueue(array, 1, 5, stream=stream.handle)
if {graph}:
    captured.launch()
waits = stream.pending
deadline = time.monotonic() + 20
while not stream.query() and time.monotonic() < deadline:
    time.sleep(0.001)
time.sleep(0.05)
end([0], waits=waits, goes_on=stream.query(), kept=bool((array.get() == 7).all()),
    next=caught(comm.Iprobe), request=caught(comm.Isend, array, 1))
""",
        survivors=[0],
        environment={"MOONCAKE_MPI_CUDA_LIBRARY": str(fake_cuda.path())},
    )
    told = results[0]
    assert told["waits"] > 0
    assert told["goes_on"]
    assert told["kept"]
    # A graph keeps a copy of what it sends, which is nobody's when the receiver has ended.
    assert (graph and sends) or told["next"][0] == "PROC_FAILED"


CUPY = f"""
sys.path[:0] = [{str(Path(fake_cuda.__file__).parent)!r},
                {str(Path(fake_cuda.__file__).parent / "gpu" / "stand_in")!r}]
import cupy, fake_cuda
cupy.cuda.Device(0).use()
stream = cupy.cuda.Stream(non_blocking=True)
array = cupy.array(np.zeros(200_000, "u1"))
fake_cuda.library().fake_cuda_hold(stream.ptr, 1)
with stream:
    array[...] = cupy.empty(200_000, "u1")  # what the stream does not come to
comm.Sendrecv(np.zeros(1), 1 - rank, 9, np.zeros(1), 1 - rank, 9)
"""


@pytest.mark.parametrize("late", [False, True])
def test_an_object_whose_arrays_have_not_come_is_an_error_when_its_sender_dies(survive, late):
    results = survive(
        2,
        CUPY
        + f"""
if rank == 1:
    with stream:
        request = comm.isend([array, "text"], 0, 5)
    time.sleep(0.2)
    die()
comm.Probe(1, 5)
if {late}:
    time.sleep(0.5)
end([0], told=caught(comm.recv, None, 1, 5), again=caught(comm.recv, None, 1, 5))
""",
        survivors=[0],
        environment={"MOONCAKE_MPI_CUDA_LIBRARY": str(fake_cuda.path())},
    )
    assert results[0]["told"][0] == "PROC_FAILED"
    assert results[0]["again"][0] == "PROC_FAILED"


def test_an_object_with_arrays_is_an_error_when_its_receiver_dies(survive):
    results = survive(
        2,
        CUPY
        + """
if rank == 1:
    time.sleep(0.2)
    die()
array = cupy.array(np.zeros(200_000, "u1"))
request = comm.isend([array], 1, 6)
end([0], told=caught(comm.send, [array, "text"], 1, 5), request=caught(request.wait))
""",
        survivors=[0],
        environment={"MOONCAKE_MPI_CUDA_LIBRARY": str(fake_cuda.path())},
    )
    assert results[0]["told"][0] == "PROC_FAILED"
    assert results[0]["request"][0] == "PROC_FAILED"


def test_a_message_without_bytes_of_a_dead_rank_s_stream_is_an_error(survive):
    results = survive(
        2,
        CUPY
        + """
if rank == 1:
    comm.Send_enqueue(np.empty(0), 0, 5, stream=stream.ptr)
    time.sleep(0.2)
    die()
end([0], told=caught(comm.Recv, np.empty(0), 1, 5))
""",
        survivors=[0],
        environment={"MOONCAKE_MPI_CUDA_LIBRARY": str(fake_cuda.path())},
    )
    assert results[0]["told"][0] == "PROC_FAILED"
