"""The engine fills a Status where the MPI library reads it, or leaves it to the package."""

from __future__ import annotations

import numpy as np
import pytest

from mooncake_mpi import MPI, _native
from mooncake_mpi.requests import status_layout


@pytest.fixture(autouse=True)
def taught_again():
    MPI.COMM_SELF.Get_size()  # the engine runs
    yield
    assert status_layout.teach()


def received(nbytes):
    """The status of a message of ``nbytes`` that went into a status that was cancelled before."""
    status = MPI.Status()
    status.Set_cancelled(flag=True)
    comm = MPI.COMM_SELF
    comm.Isend(np.zeros(nbytes, "B"), 0, 77)
    comm.Recv(np.zeros(nbytes + 5, "B"), MPI.ANY_SOURCE, MPI.ANY_TAG, status)
    fields = (status.source, status.tag, status.error, status.count)
    return (*fields, status.Get_count(MPI.BYTE), status.Is_cancelled())


@pytest.mark.parametrize("nbytes", [0, 1, 100_000])
def test_both_ways_fill_a_status_alike(nbytes):
    expected = (0, 77, MPI.SUCCESS, nbytes, nbytes, False)
    assert received(nbytes) == expected
    status_layout.forget()
    assert received(nbytes) == expected


def test_the_layout_of_this_library_is_found():
    assert status_layout.find() is not None
    assert status_layout.teach()


@pytest.mark.parametrize("field", ["source", "tag", "error", "nbytes"])
def test_a_layout_that_does_not_read_back_is_not_used(monkeypatch, field):
    layout = status_layout.find()
    other = {"source": "tag", "tag": "error", "error": "source", "nbytes": "source"}[field]
    wrong = layout._replace(**{field: getattr(layout, other)})
    monkeypatch.setattr(status_layout, "find", lambda: wrong)
    assert not status_layout.teach()
    assert received(10)[:4] == (0, 77, MPI.SUCCESS, 10)
    monkeypatch.undo()


def test_a_status_of_another_type_is_refused():
    with pytest.raises(TypeError, match="status"):
        _native.write_status(object(), 0, 0, 0, 0)
