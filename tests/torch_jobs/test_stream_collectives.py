"""Collectives of tensors of GPUs that a stream waits for, on a libcuda that needs no GPU."""

from __future__ import annotations

import pytest

COLLECTIVES = """
import threading
from types import SimpleNamespace
from mooncake_mpi.collectives.all_reduce import all_reduce
from mooncake_mpi.torch.loaded_kernels import LoadedKernels
from mooncake_mpi.torch.port import TensorPort

class Part(Tensor):
    '''What schedules ask for, too; its work is in the stream.'''
    def __init__(self, size, value):
        super().__init__(size, value)
        self.stream = stream
    def numel(self): return len(self)
    def detach(self): return self
    def view(self, *_): return self
    def __getitem__(self, rows):
        part = super().__getitem__(rows)
        part.__class__ = Part
        return part

class FakeStream:
    device = Device(0)
    def __init__(self, stream): self.stream, self.cuda_stream = stream, stream.handle
    def __eq__(self, other): return self.cuda_stream == other.cuda_stream
    def query(self): return self.stream.query()
    def synchronize(self): self.stream.synchronize()

stream_waits.stream_of = lambda given: FakeStream(current[0])
have_kernels = LoadedKernels.have
LoadedKernels.have = lambda *_: True
torch.cuda.current_stream = lambda device=None: FakeStream(current[0])
TensorPort.empty_like = lambda self, part: Part(len(part), 0)

added = []
@fake_cuda.Kernel.function
def run_next(*_):
    if not added:
        return 0
    into, what = added.pop(0)
    into._host()[...] += what._host()
    return 0
kernel = fake_cuda.Kernel(name=b"add", function=run_next)
kernel.launch(another)  # loads it
def add(into, what):
    '''In the current stream.'''
    added.append((into, what))
    kernel.launch(current[0])

OPTIONS = SimpleNamespace(asyncOp=False, rootRank=0)
def summed(part):
    def schedule(port): all_reduce(port, part, add)
    return group._run("all_reduce", OPTIONS, schedule, (), [part], [part])

def broadcast(part):
    return group.broadcast([part], OPTIONS)
"""


@pytest.fixture
def collectives(on_gpus):
    """As ``on_gpus``, with collectives."""

    def run(size, text, killed=()):
        on_gpus(size, COLLECTIVES + text, killed)

    return run


def test_the_program_goes_on_and_the_stream_waits(collectives):
    collectives(
        3,
        """
begin()
for size in (8, 5000, 3_000_000):
    part, kept = Part(size, rank), Part(size, 0)
    if rank == 0:
        part.set(5)
        time.sleep(0.6)
    began = time.monotonic()
    work = broadcast(part)
    assert work.wait()
    fake_cuda.copy_async(kept, part, stream)
    assert time.monotonic() - began < 0.4
    if rank:
        assert not work.is_completed()
    ends(work.is_completed)
    assert (kept.get() == 5).all()
    dist.barrier()
""",
    )


def test_the_first_of_a_kind_loads_its_kernels_while_the_program_waits(collectives):
    collectives(
        2,
        """
LoadedKernels.have = have_kernels
begin()
for length, waits in ((1000, True), (1000, False), (1128, False), (1001, True)):
    part = Part(length, 1)
    dist.barrier()
    if rank == 1:
        time.sleep(0.3)
    began = time.monotonic()
    summed(part).wait()
    if rank == 0:
        assert (time.monotonic() - began > 0.2) == waits, length
    ends(stream.query)
    assert (part.get() == 2).all()
dist.barrier()
""",
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_many_one_behind_the_other_are_ahead_of_the_stream(collectives, size):
    collectives(
        size,
        """
begin()
for length in (1, 1000, 70_000):
    parts = [Part(length, rank + turn) for turn in range(8)]
    stream.hold()
    threading.Timer(0.2, stream.let_go).start()
    for part in parts:
        summed(part).wait()
        add(part, part)
    ends(stream.query)
    for turn, part in enumerate(parts):
        assert (part.get() == 2 * sum(one + turn for one in range(size))).all()
dist.barrier()
""",
    )


def test_large_parts_of_two_ranks_go_in_pieces(collectives):
    collectives(
        2,
        """
import mooncake_mpi.collectives.all_reduce as module
module._PIECE_BYTES = 100_000
begin()
for length in (100_000, 1_000_001):
    part = Part(length, 0)
    part.set(np.arange(length) % 100 + rank)
    summed(part).wait()
    ends(stream.query)
    assert (part.get() == 2 * (np.arange(length) % 100) + 1).all()
dist.barrier()
""",
    )


def test_another_stream_that_waits_since_before_holds_up_none(collectives):
    collectives(
        2,
        """
begin()
other = 1 - rank
for turn in range(20):
    into, total = tensor(50_000, 9), Part(4000, rank + turn)
    into.stream = another
    work = group.recv([into], other, 1)
    current[0] = another
    work.wait()
    current[0] = stream
    summed(total).wait()
    ends(stream.query)
    assert (total.get() == 1 + 2 * turn).all()
    group.send([tensor(50_000, rank)], other, 1).wait()
    ends(another.query)
    assert (into.get() == other).all()
dist.barrier()
""",
    )


def test_what_waits_for_its_sender_s_stream_is_no_other_operation(collectives):
    collectives(
        2,
        """
begin()
parts = [Part(70_000, rank) for _ in range(4)]
if rank == 0:
    stream.hold()
for part in parts:
    if rank == 1:
        time.sleep(0.3)  # what comes behind has been announced
    broadcast(part).wait()
if rank == 0:
    time.sleep(1.5)
    stream.let_go()
ends(stream.query)
assert all((part.get() == 0).all() for part in parts)
dist.barrier()
""",
    )


def test_ranks_that_call_something_else_are_told_by_the_next_call(collectives):
    collectives(
        2,
        """
begin()
part = Part(1000 + rank, 1)
began = time.monotonic()
work = summed(part)
work.wait()
assert time.monotonic() - began < 0.5
ends(stream.query)
ends(lambda: work.exception() is not None)
error = told(summed, part)
assert "all_reduce" in error and "operation 1" in error, error
assert time.monotonic() - began < 10
assert "all_reduce" in told(work.wait)
assert "failed before" in told(summed(part).wait)
""",
    )


def test_a_rank_that_does_not_come_is_named_after_the_group_s_timeout(collectives):
    collectives(
        2,
        """
begin(timeout=1)
if rank == 0:
    part = Part(1000, 1)
    began = time.monotonic()
    work = summed(part)
    work.wait()
    assert time.monotonic() - began < 0.5
    ends(stream.query)
    assert 0.9 < time.monotonic() - began < 5
    ends(lambda: work.exception() is not None)
    error = told(summed, part)
    assert "timed out after 1 s" in error and "rank 1" in error, error
else:
    time.sleep(3)
    part = Part(1000, 1)
    ends(lambda: "timed out after 1 s" in (told(lambda: summed(part).wait()) or ""))
""",
    )


def test_the_group_s_end_waits_for_its_streams(collectives):
    collectives(
        2,
        """
begin()
part = Part(70_000, 1)
if rank == 1:
    time.sleep(0.5)
summed(part).wait()
dist.destroy_process_group()
ends(stream.query)
assert (part.get() == 2).all()
""",
    )


def test_an_aborted_group_lets_its_streams_go_on(collectives):
    collectives(
        2,
        """
begin()
if rank == 0:
    work = summed(Part(70_000, 1))
    work.wait()
    group.abort()
    ends(stream.query)
    assert "aborted" in told(work.wait)
else:
    time.sleep(1)
""",
    )


def test_a_rank_that_dies_lets_the_streams_of_the_others_go_on(collectives):
    collectives(
        3,
        """
begin()
dist.barrier()
if rank == 2:
    os.kill(os.getpid(), signal.SIGKILL)
part, began, error = Part(70_000, 1), time.monotonic(), None
while error is None:
    assert time.monotonic() - began < 20
    error = told(lambda: summed(part).wait())
assert "rank 2" in error or "another rank" in error, error
ends(stream.query)
""",
        killed=[2],
    )
