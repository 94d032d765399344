"""Messages of tensors of GPUs that a stream waits for, on a libcuda that needs no GPU."""

from __future__ import annotations


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
