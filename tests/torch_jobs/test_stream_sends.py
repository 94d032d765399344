"""Sends of tensors of GPUs that a stream waits for, on a libcuda that needs no GPU."""

from __future__ import annotations


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
