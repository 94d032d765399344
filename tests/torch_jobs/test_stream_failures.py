"""Streams that wait for messages which fail, or whose way is closed; on a libcuda that needs no GPU."""

from __future__ import annotations


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
    # of the host's memory: nothing else is opened
    group.send([torch.full((size,), 5, dtype=torch.uint8)], 0, 7).wait(limit)
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
    ends(lambda: opened() < before)
""",
        killed=[2],
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
