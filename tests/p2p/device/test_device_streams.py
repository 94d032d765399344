"""Messages keep the order of the stream that a program uses an array in, without waiting for it."""

from __future__ import annotations

import signal
import threading
import time

import fake_cuda
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of

pytestmark = [pytest.mark.ours, pytest.mark.fake]

SIZES = [8, 5000, 400_000, 3 << 20]
SENDS = ["Isend", "Issend"]


def goes_on(seconds=0.03):
    """Let messages travel that are free to."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        MPI.COMM_SELF.Iprobe()


@pytest.fixture
def write(made, stream):
    """Puts a pattern into an array of the stream, when that is let go."""

    def queue(array, seed, on=stream):
        source = made(array.nbytes).set(pattern(array.nbytes, seed))
        fake_cuda.copy_async(array, source, on)

    return queue


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("start", SENDS)
def test_what_is_sent_is_what_the_stream_has_yet_to_write(comm, made, stream, write, size, start):
    right, left = ring_of(comm)
    out, into = made(size, stream=stream).set(0), made(size).set(255)
    stream.hold()
    write(out, comm.rank)
    receive = comm.Irecv(into, left, 1)
    send = getattr(comm, start)(out, right, 1)
    quiet_barrier()
    goes_on()
    assert not send.Test()
    assert not receive.Test()
    assert (into.get() == 255).all()
    quiet_barrier()
    stream.let_go()
    MPI.Request.Waitall([send, receive])
    assert is_pattern(into.get(), left)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("expected", [True, False])
def test_a_receive_writes_after_the_stream_s_readers(comm, made, stream, size, expected):
    right, left = ring_of(comm)
    out = made(size).set(pattern(size, comm.rank))
    into, kept = made(size, stream=stream).set(7), made(size).set(0)
    stream.hold()
    fake_cuda.copy_async(kept, into, stream)
    if expected:
        receive = comm.Irecv(into, left, 1)
        quiet_barrier()
        send = comm.Isend(out, right, 1)
    else:
        send = comm.Isend(out, right, 1)
        quiet_barrier()
        receive = comm.Irecv(into, left, 1)
    goes_on()
    assert not receive.Test()
    assert (into.get() == 7).all()
    stream.let_go()
    MPI.Request.Waitall([send, receive])
    assert (kept.get() == 7).all()
    assert is_pattern(into.get(), left)


@pytest.mark.parametrize("size", [5000, 400_000])
def test_a_matched_message_is_received_in_the_stream_s_order(comm, made, stream, size):
    right, left = ring_of(comm)
    into, kept = made(size, stream=stream).set(7), made(size).set(0)
    send = comm.Isend(made(size).set(pattern(size, comm.rank)), right, 1)
    stream.hold()
    fake_cuda.copy_async(kept, into, stream)
    receive = comm.Mprobe(left, 1).Irecv(into)
    goes_on()
    assert (into.get() == 7).all()
    stream.let_go()
    MPI.Request.Waitall([send, receive])
    assert (kept.get() == 7).all()
    assert is_pattern(into.get(), left)


@pytest.mark.parametrize("size", [5000, 400_000])
@pytest.mark.parametrize("call", ["Send", "Ssend", "Bsend", "Sendrecv_replace"])
def test_a_blocking_call_lets_other_threads_run_that_it_waits_for(
    comm, made, attached, stream, write, size, call
):
    right, left = ring_of(comm)
    out, into = made(size, stream=stream).set(0), made(size).set(255)
    receive = comm.Irecv(into, left, 1)
    stream.hold()
    write(out, comm.rank)
    helper = threading.Timer(0.05, stream.let_go)
    helper.start()
    if call == "Sendrecv_replace":
        receive.Cancel()
        receive.Wait()
        quiet_barrier()
        comm.Sendrecv_replace(out, right, 1, left, 1)
        into = out
    else:
        getattr(comm, call)(out, right, 1)
        receive.Wait()
    helper.join()
    assert is_pattern(into.get(), left)


def test_a_buffered_send_has_its_copy_when_it_returns(comm, made, attached, stream, write):
    right, left = ring_of(comm)
    size = 300_000
    out, into = made(size, stream=stream), made(size)
    write(out, comm.rank)
    comm.Bsend(out, right, 1)
    out.set(0)
    comm.Recv(into, left, 1)
    assert is_pattern(into.get(), left)


class HandlerError(Exception):
    """What the handler of a signal raises."""


@pytest.mark.parametrize("persistent", [False, True])
def test_a_buffered_send_that_waits_for_its_stream_is_interrupted(
    comm, made, attached, stream, write, persistent
):
    def handle(signum, frame):
        raise HandlerError

    right, left = ring_of(comm)
    out, into = made(5000, stream=stream).set(0), made(5000).set(255)
    stream.hold()
    write(out, comm.rank)
    request = comm.Bsend_init(out, right, 1) if persistent else None
    old = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(HandlerError):
            request.Start() if persistent else comm.Bsend(out, right, 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    stream.let_go()
    # Nothing was sent, and the next message is the first.
    request.Start() if persistent else comm.Bsend(out, right, 1)
    if persistent:
        request.Wait()
        request.Free()
    comm.Recv(into, left, 1)
    assert is_pattern(into.get(), left)
    quiet_barrier()
    assert not comm.Iprobe(left, 1)


@pytest.mark.parametrize("size", [5000, 400_000])
def test_a_persistent_send_is_of_the_stream_at_its_start(comm, made, stream, write, size):
    right, left = ring_of(comm)
    out, into = made(size).set(0), made(size).set(255)
    other = fake_cuda.Stream(0)
    send, receive = comm.Send_init(out, right, 1), comm.Recv_init(into, left, 1)
    for turn, used in enumerate([stream, other, stream]):
        out.stream = used
        used.hold()
        write(out, comm.rank + turn, on=used)
        receive.Start()
        send.Start()
        goes_on()
        assert not receive.Test()
        quiet_barrier()
        used.let_go()
        MPI.Request.Waitall([send, receive])
        assert is_pattern(into.get(), left + turn)
    send.Free()
    receive.Free()
    other.destroy()


@pytest.mark.parametrize("named", [None, fake_cuda.LEGACY_STREAM, fake_cuda.PER_THREAD_STREAM])
def test_an_array_of_the_default_stream_waits_for_it(comm, made, write, named):
    right, left = ring_of(comm)
    size = 5000
    out, into = made(size, stream=named).set(0), made(size).set(255)
    for turn in range(20):
        write(out, comm.rank + turn, on=named or fake_cuda.LEGACY_STREAM)
        send = comm.Isend(out, right, 1)
        comm.Recv(into, left, 1)
        send.Wait()
        assert is_pattern(into.get(), left + turn)


def test_messages_of_other_streams_are_not_held_up(comm, made, stream, write):
    right, left = ring_of(comm)
    held, out = made(400_000, stream=stream).set(0), made(400_000)
    out.set(pattern(400_000, comm.rank))
    into, late = made(400_000).set(255), made(400_000).set(255)
    stream.hold()
    write(held, comm.rank + 1)
    slow = [comm.Irecv(late, left, 1), comm.Isend(held, right, 1)]
    comm.Sendrecv(out, right, 2, into, left, 2)
    assert is_pattern(into.get(), left)
    assert (late.get() == 255).all()
    quiet_barrier()
    stream.let_go()
    MPI.Request.Waitall(slow)
    assert is_pattern(late.get(), left + 1)


def test_a_stream_that_is_captured_is_refused(comm, made, stream):
    array = made(100, stream=stream)
    stream.set_capturing(True)
    for call in (comm.Send, comm.Isend, comm.Irecv, comm.Recv):
        with pytest.raises(MPI.Exception, match="captured into a CUDA graph") as caught:
            call(array, comm.rank)
        assert caught.value.Get_error_class() == MPI.ERR_BUFFER
    stream.set_capturing(False)
    comm.Sendrecv(array, comm.rank, 0, made(100), comm.rank, 0)
