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
