"""Messages of tensors of GPUs that a stream waits for, on a libcuda that needs no GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import fake_cuda

ARRAYS = f"""
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import fake_cuda
import numpy as np
from mooncake_mpi.torch import stream_waits

class Device(int):
    type = "cuda"

class Tensor(fake_cuda.Array):
    '''As much of a tensor of a GPU as messages ask for.'''
    layout, is_cpu, requires_grad = torch.strided, False, False

    def __init__(self, size, value):
        super().__init__(size, "u1")
        self.device = Device(0)
        self.set(value)

    def is_contiguous(self): return True
    def is_neg(self): return False
    def is_conj(self): return False
    def data_ptr(self): return self.ptr

stream, another = fake_cuda.Stream(0), fake_cuda.Stream(0)
current = [stream]
stream_waits.current_stream = lambda tensor: current[0].handle

def tensor(size, value):
    return Tensor(size, value)

def ends(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)

group = None
def begin(timeout=60):
    global group
    meet(timeout)
    group = dist.group.WORLD
"""


@pytest.fixture
def on_gpus(ranks):
    """Runs a program on so many processes, which have arrays; those not ``killed`` end well."""

    def run(size, text, killed=()):
        variables = {
            "MOONCAKE_MPI_CUDA_LIBRARY": str(fake_cuda.path()),
            "MOONCAKE_MPI_TORCH_STREAM_SENDS": "1",
        }
        for rank, one in enumerate(ranks(size, ARRAYS + text, variables)):
            assert one.status == (-9 if rank in killed else 0), f"rank {rank}: {one.output}"

    return run


def test_the_program_goes_on_and_the_stream_waits(on_gpus):
    on_gpus(
        2,
        """
begin()
for size in (8, 5000, 3_000_000):
    if rank == 0:
        into, kept = tensor(size, 0), tensor(size, 0)
        work = group.recv([into], 1, 7)
        began = time.monotonic()
        assert work.wait()
        fake_cuda.copy_async(kept, into, stream)
        assert time.monotonic() - began < 0.4
        assert not work.is_completed()
        assert work.wait()  # of the same stream, again
        ends(stream.query)
        assert (kept.get() == 5).all()
        ends(work.is_completed)
        assert work.is_success()
        assert work.source_rank() == 1
        assert work.get_future().wait()[0] is into
    else:
        time.sleep(0.6)
        group.send([tensor(size, 5)], 0, 7).wait()
    dist.barrier()
""",
    )


def test_a_kernel_that_is_loaded_behind_the_wait_for_a_first_message_loses_nothing(on_gpus):
    on_gpus(
        2,
        """
begin()
for size in (1000, 3_000_000, 40_000_000):
    out, into = tensor(size, rank), tensor(size, 9)
    kernel = fake_cuda.Kernel()
    if rank == 0:
        work = group.recv([into], 1, 7)
        work.wait()
        kernel.launch(stream)  # holds the driver until the message is there
        ends(stream.query)
        assert work.is_success(), work.exception()
        assert (into.get() == 1).all()
        group.send([out], 1, 8).wait(timedelta(seconds=20))
    else:
        time.sleep(0.3)
        group.send([out], 0, 7).wait(timedelta(seconds=20))
        group.recv([into], 0, 8).wait()
        kernel.launch(stream)
        ends(stream.query)
        assert (into.get() == 0).all()
dist.barrier()
""",
    )


def test_what_a_dead_rank_has_left_open_is_not_closed_while_a_stream_waits(on_gpus):
    on_gpus(
        3,
        """
begin()
limit, size = timedelta(seconds=20), 400_000
opened = fake_cuda.library().fake_cuda_imports
if rank == 2:
    into = tensor(size, 0)
    work = group.recv([into], 0, 1)
    dist.barrier()
    work.wait(limit)
    group.recv([torch.zeros(1)], 0, 2).wait()
    os.kill(os.getpid(), signal.SIGKILL)
if rank == 1:
    dist.barrier()
    group.recv([torch.zeros(1)], 0, 8).wait()
    group.send([tensor(size, 5)], 0, 7).wait(limit)
else:
    dist.barrier()
    group.send([tensor(size, 1)], 2, 1).wait(limit)
    before = opened()
    assert before
    into = tensor(size, 0)
    group.recv([into], 1, 7).wait()
    group.send([torch.zeros(1)], 2, 2).wait()
    assert "PROC_FAILED" in told(group.recv([torch.zeros(1)], 2, 3).wait)
    time.sleep(0.5)
    assert not stream.query()
    assert opened() == before
    group.send([torch.zeros(1)], 1, 8).wait()
    ends(stream.query)
    assert (into.get() == 5).all()
    ends(lambda: opened() <= before)
""",
        killed=[2],
    )


def test_another_stream_and_a_timeout_make_the_program_wait(on_gpus):
    on_gpus(
        2,
        """
begin()
if rank == 0:
    into = tensor(5000, 0)
    work = group.recv([into], 1, 7)
    assert "timed out after 0.2 s" in told(work.wait, timedelta(seconds=0.2))
    assert work.wait()
    assert (into.get() == 0).all()
    current[0] = another
    dist.barrier()
    work.wait()
    assert (into.get() == 5).all()
    into.set(0)
    work = group.recv([into], 1, 7)
    work.wait()
    assert work.source_rank() == 1
else:
    dist.barrier()
    for _ in range(2):
        group.send([tensor(5000, 5)], 0, 7).wait()
dist.barrier()
""",
    )


def test_the_program_waits_for_a_message_from_any_rank(on_gpus):
    on_gpus(
        2,
        """
begin()
if rank == 0:
    into = tensor(5000, 0)
    work = group.recv_anysource([into], 7)
    began = time.monotonic()
    dist.barrier()
    work.wait()
    assert time.monotonic() - began > 0.2
    assert work.source_rank() == 1
    assert (into.get() == 5).all()
else:
    dist.barrier()
    time.sleep(0.3)
    group.send([tensor(5000, 5)], 0, 7).wait()
dist.barrier()
""",
    )


def test_a_batch_is_waited_for_in_the_stream(on_gpus):
    on_gpus(
        2,
        """
begin()
other, size = 1 - rank, 300_000
for turn in range(5):
    intos, outs = ([tensor(size, first + tag) for tag in range(3)] for first in (50, turn))
    operations = [("send", out, other, tag) for tag, out in enumerate(outs)]
    operations += [("recv", into, other, tag) for tag, into in enumerate(intos)]
    for work in group.batch(operations if rank else operations[::-1]):
        work.wait()
    ends(stream.query)
    for tag, into in enumerate(intos):
        assert (into.get() == turn + tag).all()
dist.barrier()
""",
    )


def test_a_failure_that_no_wait_could_raise_is_raised_by_the_next_call(on_gpus):
    on_gpus(
        2,
        """
begin()
if rank == 0:
    into = tensor(1000, 0)
    work = group.recv([into], 1, 7)
    work.wait()
    dist.barrier()
    ends(stream.query)
    ends(work.is_completed)
    assert "TRUNCATE" in str(work.exception())
    assert not work.is_success()
    assert "TRUNCATE" in told(work.wait)
    assert "TRUNCATE" in told(group.send, [into], 1, 8)
    group.send([into], 1, 8).wait()
else:
    dist.barrier()
    send = group.send([tensor(2000, 5)], 0, 7)
    group.recv([tensor(1000, 0)], 0, 8).wait()
    ends(stream.query)
""",
    )


def test_a_message_that_never_comes_is_given_up_after_the_group_s_timeout(on_gpus):
    on_gpus(
        2,
        """
begin(timeout=1)
if rank == 0:
    work = group.recv([tensor(1000, 0)], 1, 7)
    began = time.monotonic()
    work.wait()
    assert time.monotonic() - began < 0.5
    ends(stream.query)
    assert 0.9 < time.monotonic() - began < 5
    ends(work.is_completed)
    assert "timed out after 1 s" in told(work.wait)
    assert "timed out after 1 s" in told(group.send, [tensor(8, 1)], 1, 8)
    group.send([tensor(8, 1)], 1, 8).wait()
else:
    time.sleep(2.5)
    group.recv([tensor(8, 1)], 0, 8).wait()
    ends(stream.query)
""",
    )


def test_an_aborted_group_lets_its_streams_go_on(on_gpus):
    on_gpus(
        2,
        """
begin()
if rank == 0:
    work = group.recv([tensor(1000, 0)], 1, 7)
    work.wait()
    group.abort()
    ends(stream.query)
    ends(work.is_completed)
    assert "aborted" in told(work.wait)
else:
    time.sleep(1)
""",
    )


def test_a_peer_that_dies_lets_the_stream_go_on(on_gpus):
    on_gpus(
        2,
        """
begin()
if rank == 0:
    work = group.recv([tensor(1000, 0)], 1, 7)
    work.wait()
    group.send([tensor(8, 1)], 1, 8).wait()
    ends(stream.query)
    ends(work.is_completed)
    assert "PROC_FAILED" in told(work.wait)
else:
    group.recv([tensor(8, 0)], 0, 8).wait(timedelta(seconds=20))
    os.kill(os.getpid(), signal.SIGKILL)
""",
        killed=[1],
    )


def test_the_program_goes_on_and_the_stream_waits_for_a_send(on_gpus):
    on_gpus(
        2,
        """
begin()
for size in (8, 5000, 3_000_000):
    if rank == 0:
        out, other = tensor(size, 5), tensor(size, 6)
        began = time.monotonic()
        work = group.send([out], 1, 7)
        assert work.wait()
        fake_cuda.copy_async(out, other, stream)
        assert time.monotonic() - began < 0.4
        assert work.wait()  # of the same stream, again
        if size > 65536:  # no other is put aside
            assert not work.is_completed()
        ends(stream.query)
        ends(work.is_completed)
        assert work.is_success()
        assert work.get_future().wait()[0] is out
        assert (out.get() == 6).all()
    else:
        time.sleep(0.6)
        into = tensor(size, 0)
        group.recv([into], 0, 7).wait()
        ends(stream.query)
        assert (into.get() == 5).all()
    dist.barrier()
""",
    )


def test_stages_of_a_pipeline_send_and_receive_in_one_stream(on_gpus):
    on_gpus(
        3,
        """
begin()
size, count, size_of_job = 300_000, 6, 3
for turn in range(3):
    outs, intos = ([tensor(size, 0) for _ in range(count)] for _ in range(2))
    for one in outs + intos:
        one.stream = stream
    for step, (out, into) in enumerate(zip(outs, intos, strict=True)):
        if rank > 0:
            group.recv([into], rank - 1, step).wait()
            fake_cuda.copy_async(out, into, stream)
        else:
            out.set(10 * turn + step)
        if rank < size_of_job - 1:
            group.send([out], rank + 1, step).wait()
    ends(stream.query)
    for step, out in enumerate(outs):
        assert (out.get() == 10 * turn + step).all()
    dist.barrier()
""",
    )


def test_a_send_that_nobody_takes_is_given_up_after_the_group_s_timeout(on_gpus):
    on_gpus(
        2,
        """
begin(timeout=1)
if rank == 0:
    out = tensor(400_000, 4)
    work = group.send([out], 1, 7)
    began = time.monotonic()
    work.wait()
    assert time.monotonic() - began < 0.5
    ends(stream.query)
    assert 0.9 < time.monotonic() - began < 5
    ends(work.is_completed)
    assert not work.is_success()
    assert "timed out after 1 s" in told(work.wait)
    assert "timed out after 1 s" in told(group.send, [out], 1, 8)
    del work
    group.send([tensor(8, 1)], 1, 8).wait()
    group.recv([tensor(8, 1)], 1, 9).wait(timedelta(seconds=20))
else:
    time.sleep(2.5)
    group.recv([tensor(8, 1)], 0, 8).wait()
    ends(stream.query)
    into = tensor(400_000, 0)
    group.recv([into], 0, 7).wait()  # it was never taken back
    ends(stream.query)
    assert (into.get() == 4).all()
    group.send([tensor(8, 1)], 0, 9).wait()
""",
    )


def test_the_receiver_s_death_lets_a_sender_s_stream_go_on(on_gpus):
    on_gpus(
        2,
        """
begin()
if rank == 0:
    work = group.send([tensor(400_000, 1)], 1, 7)
    work.wait()
    group.send([tensor(8, 1)], 1, 8).wait(timedelta(seconds=20))
    ends(stream.query)
    ends(work.is_completed)
    assert "PROC_FAILED" in told(work.wait)
else:
    group.recv([tensor(8, 0)], 0, 8).wait(timedelta(seconds=20))
    os.kill(os.getpid(), signal.SIGKILL)
""",
        killed=[1],
    )


def test_a_rank_that_died_is_told_of_once(on_gpus):
    on_gpus(
        3,
        """
begin()
if rank == 2:
    for peer in range(2):
        group.recv([tensor(8, 0)], peer, 8).wait(timedelta(seconds=20))
    os.kill(os.getpid(), signal.SIGKILL)
works = [group.recv([tensor(1000, 0)], 2, tag) for tag in range(3)]
works.append(group.send([tensor(400_000, 1)], 2, 9))
for work in works:
    work.wait()
out, into = tensor(1000, 5), tensor(1000, 0)
group.send([tensor(8, 1)], 2, 8).wait(timedelta(seconds=20))
ends(stream.query)
for work in works:
    ends(work.is_completed)
assert "PROC_FAILED" in told(group.send, [out], 1 - rank, 1)
group.send([out], 1 - rank, 1).wait()
group.recv([into], 1 - rank, 1).wait()
ends(stream.query)
assert (into.get() == 5).all()
assert all("PROC_FAILED" in str(work.exception()) for work in works)
""",
        killed=[2],
    )


def test_a_collective_of_the_thread_waits_for_the_stream_and_the_program_goes_on(on_gpus):
    on_gpus(
        2,
        """
from contextlib import nullcontext
from types import SimpleNamespace
from mooncake_mpi.torch import side_streams, tensors

class Flat(Tensor):
    def numel(self): return len(self)
    def detach(self): return self
    def view(self, *_): return self

def moments(given):
    event = fake_cuda.Event()
    event.record(current[0])
    return [event]

tensors.moments, tensors.settle = moments, lambda given: None
side_streams.SideStreams.current_for = lambda *_: nullcontext()
begin()
for size in (8, 300_000):
    part, wanted = Flat(size, rank), tensor(size, 5)
    if rank == 0:
        stream.hold()
        fake_cuda.copy_async(part, wanted, stream)
    began = time.monotonic()
    work = group.broadcast([part], SimpleNamespace(rootRank=0, asyncOp=True))
    assert time.monotonic() - began < 0.3
    if rank == 0:
        time.sleep(0.3)
        assert not work.is_completed()
        stream.let_go()
    work.wait()
    assert (part.get() == 5).all()
dist.barrier()
""",
    )
