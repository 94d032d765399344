"""Requests that mpi4py takes for its own: their errors, and who hears of them."""

from __future__ import annotations

import numpy as np
import pytest
from subject import library, ring_of, wait_until

import mooncake_mpi

MPICH = library.get_vendor()[0] == "MPICH"
Request, Prequest, Status = library.Request, library.Prequest, library.Status
CALLS = []


@pytest.fixture(scope="module")
def made_handler():
    """Of such handlers mpi4py can make a small number only."""
    made = library.Comm.Create_errhandler(
        lambda whose, code: CALLS.append((whose.handle, library.Get_error_class(code)))
    )
    yield made
    made.Free()


@pytest.fixture
def handler(made_handler):
    """An error handler that notes its calls."""
    yield made_handler
    CALLS.clear()


@pytest.mark.ours
def test_a_truncated_message_raises_with_its_class(wrapped, capfd):
    right, left = ring_of(wrapped)
    for end, expected in (
        (lambda request, status: Request.Waitall([request], [status]), library.ERR_IN_STATUS),
        (lambda request, status: Request.Testall([request], [status]), library.ERR_IN_STATUS),
        (lambda request, status: Request.Waitsome([request], [status]), library.ERR_IN_STATUS),
        (lambda request, status: Request.Testsome([request], [status]), library.ERR_IN_STATUS),
        (lambda request, status: Request.waitall([request], [status]), library.ERR_IN_STATUS),
        (lambda request, status: Request.Waitany([request], status), library.ERR_TRUNCATE),
        (lambda request, status: Request.Testany([request], status), library.ERR_TRUNCATE),
        (lambda request, _: Request.Testany([request]), library.ERR_TRUNCATE),
        (lambda request, _: Request.Wait(request), library.ERR_TRUNCATE),
        (Request.Test, library.ERR_TRUNCATE),
        (Request.Wait, library.ERR_TRUNCATE),
        (lambda request, status: request.Wait(status), library.ERR_TRUNCATE),
        (lambda request, status: request.Test(status), library.ERR_TRUNCATE),
    ):
        send = wrapped.Isend(np.zeros(3), right, 4)
        wrapped.Probe(left, 4)
        array, status = np.full(2, -1.0), Status()
        receive = wrapped.Irecv(array[:1], left, 4)
        with pytest.raises(library.Exception) as caught:
            end(receive, status)
        found = caught.value.Get_error_class()
        if expected == library.ERR_IN_STATUS:
            assert found == expected
            found = library.Get_error_class(status.Get_error())
        # MPICH makes one class of all errors of generalized requests.
        own = isinstance(caught.value, mooncake_mpi.Error)
        assert found == library.ERR_TRUNCATE or (MPICH and not own and found == library.ERR_OTHER)
        assert array[1] == -1
        assert not receive
        send.Wait()


@pytest.mark.ours
@pytest.mark.parametrize(
    "end",
    [
        lambda request: Request.Waitall([request]),
        lambda request: Request.Waitany([request]),
        lambda request: Request.Waitsome([request]),
        lambda request: Request.Testall([request]),
        Request.Wait,
        lambda request: request.Wait(),
        lambda request: request.Test(),
    ],
)
def test_an_error_goes_to_the_handler_of_its_communicator_once(wrapped, handler, end):
    right, left = ring_of(wrapped)
    send = wrapped.Isend(np.zeros(3), right, 4)
    wrapped.Probe(left, 4)
    receive = wrapped.Irecv(np.zeros(2), left, 4)
    wrapped.Set_errhandler(handler)
    with pytest.raises(library.Exception):
        end(receive)
    assert [(wrapped.handle, library.ERR_TRUNCATE)] == CALLS
    send.Wait()
    failed = []
    for _ in range(2):  # one that the program does not end tells nobody
        send = wrapped.Isend(np.zeros(3), right, 4)
        wrapped.Probe(left, 4)
        failed.append(wrapped.Irecv(np.zeros(2), left, 4))
        wait_until(failed[-1].Get_status)
        send.Wait()
    failed.pop().Free()
    assert len(CALLS) == 1


@pytest.mark.ours
def test_what_the_library_cannot_start_raises(wrapped):
    request = wrapped.Recv_init(bytearray(1), ring_of(wrapped)[1], 8)
    with pytest.raises(library.Exception):
        Prequest.Startall([request])
    with pytest.raises(library.Exception):
        Prequest.Start(request)
    request.Free()
    with pytest.raises(library.Exception):
        request.Start()
