"""A signal's handler raises while the MPI library waits for requests of ours."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest
from subject import library, ring_of

Request = library.Request

WAITS = {
    "Waitall": lambda request: Request.Waitall([request]),
    "Waitany": lambda request: Request.Waitany([request]),
    "Waitsome": lambda request: Request.Waitsome([request]),
    "Wait": Request.Wait,
}


class LeftError(Exception):
    pass


def leave(*_):
    raise LeftError


@pytest.fixture
def handler():
    previous = signal.signal(signal.SIGALRM, leave)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


def wait_and_go_on(wait, request, sender):
    """As a program, which is between two instructions when the library's call is over."""
    sender.start()
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    wait(request)
    time.sleep(0)


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("size", [3, 300_000])
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_what_it_raises_comes_when_the_wait_is_over(wrapped, wait, size):
    right, left = ring_of(wrapped)
    into = np.zeros(size)
    request = wrapped.Irecv(into, left, 3)
    library.COMM_WORLD.Barrier()
    sender = threading.Timer(0.3, lambda: wrapped.Ssend(np.ones(size), right, 3))
    with pytest.raises(LeftError):
        wait_and_go_on(wait, request, sender)
    if wait is not Request.Wait:  # ours, which is left at once
        assert not request
    request.Wait()
    sender.join()
    assert (into == 1).all()
    again = wrapped.Irecv(into, left, 4)
    wrapped.Send(np.full(size, 2.0), right, 4)
    Request.Waitall([again])
    assert (into == 2).all()


@pytest.mark.usefixtures("handler")
def test_an_object_is_there_all_the_same(wrapped):
    right, left = ring_of(wrapped)
    request = wrapped.irecv(None, left, 3)
    library.COMM_WORLD.Barrier()
    sender = threading.Timer(0.3, lambda: wrapped.send("whole", right, 3))
    with pytest.raises(LeftError):
        wait_and_go_on(lambda request: Request.Waitall([request]), request, sender)
    sender.join()
    assert not request
    request = wrapped.irecv(None, left, 4)
    wrapped.send("next", right, 4)
    assert Request.waitall([request]) == ["next"]
