"""Requests that mpi4py takes for its own: copies of them, and who holds their objects."""

from __future__ import annotations

import time
from weakref import ref

import numpy as np
import pytest
from subject import library, ring_of, wait_until

Request = library.Request


class Thing:
    """An object that can be referred to weakly."""


class Counted:
    """An object that was received, and counts those that are there."""

    living = 0

    def __setstate__(self, state):
        type(self).living += 1
        self.__dict__.update(state, received=True)

    def __getstate__(self):
        return {"sent": True}

    def __del__(self):
        type(self).living -= "received" in self.__dict__


@pytest.mark.ours
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("kind", ["mpi4py's", "its own"])
def test_a_copy_shares_the_operation(wrapped, kind, first):
    right, left = ring_of(wrapped)
    array = np.zeros(1)
    request = wrapped.Irecv(array, left, 9)
    copy = Request(request) if kind == "mpi4py's" else type(request)(request)
    assert copy == request
    both = [request, copy]
    send = wrapped.Isend(np.ones(1), right, 9)
    both[first].Wait()
    assert array[0] == 1
    other = both[1 - first]
    if (
        kind == "its own" or first == 1
    ):  # otherwise a handle that mpi4py keeps, as it does of its own
        assert not other
        assert other.Wait()
        assert other.Test()
    send.Wait()


@pytest.mark.ours
def test_a_copy_gives_the_object(wrapped):
    right, left = ring_of(wrapped)
    for end in (
        lambda receive: Request(receive).wait(),
        lambda receive: type(receive)(receive).wait(),
        lambda receive: Request.wait(Request(receive)),
        lambda receive: Request.waitall([Request(receive)])[0],
        lambda receive: Request.waitany([type(receive)(receive)])[1],
    ):
        receive = wrapped.irecv(source=left, tag=16)
        send = wrapped.isend([wrapped.rank], right, 16)
        assert end(receive) == [left]
        assert not receive
        assert receive.wait() is None
        send.wait()
    receive = wrapped.irecv(source=left, tag=17)
    receive.Cancel()
    assert Request.wait(receive) is None


@pytest.mark.ours
def test_an_object_goes_with_its_last_holder(wrapped):
    right, left = ring_of(wrapped)
    receive = wrapped.irecv(source=left, tag=18)
    send = wrapped.isend(Thing(), right, 18)
    thing = ref(Request.waitall([receive, send])[0])
    del receive
    wait_until(lambda: thing() is None)


@pytest.mark.ours
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_an_object_that_nobody_can_ask_for_any_more_goes(wrapped, late, copied):
    right, left = ring_of(wrapped)
    receive = wrapped.irecv(source=left, tag=19)
    if not late:
        send = wrapped.isend(Counted(), right, 19)
        wait_until(receive.Get_status)
        assert Counted.living == 1
    copy = Request(receive) if copied else None
    del receive
    if late:
        send = wrapped.isend(Counted(), right, 19)
        send.wait()
        wrapped.sendrecv(None, right, 20, None, left, 20)  # behind the other message
        time.sleep(0.05)
    if copied:
        assert isinstance(Request.wait(copy), Counted)
        del copy
    wait_until(lambda: Counted.living == 0)
    if not late:
        send.wait()
