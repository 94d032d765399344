"""A status tells what the engine knows."""

from __future__ import annotations

import pytest
from mpi4py import MPI

from mooncake_mpi.requests.statuses import fill_empty, fill_status


@pytest.mark.parametrize("nbytes", [0, 1, 12, 2**31 - 1, 2**31, 5 * 2**30 + 3])
def test_every_field_is_set_above_2_gib_too(nbytes):
    status = MPI.Status()
    fill_status(status, 3, 17, MPI.ERR_TRUNCATE, nbytes, cancelled=False)
    assert (status.source, status.tag, status.error) == (3, 17, MPI.ERR_TRUNCATE)
    assert status.Get_elements(MPI.BYTE) == nbytes
    if nbytes < 2**31:  # an MPI library without large counts says UNDEFINED above
        assert status.Get_count(MPI.BYTE) == nbytes
    assert not status.Is_cancelled()


def test_counts_are_in_elements_of_the_asked_datatype():
    status = MPI.Status()
    fill_status(status, 0, 0, MPI.SUCCESS, 24, cancelled=False)
    pair = MPI.DOUBLE.Create_contiguous(2).Commit()
    assert status.Get_count(MPI.DOUBLE) == 3
    assert status.Get_count(pair) == MPI.UNDEFINED
    assert status.Get_elements(pair) == 3
    pair.Free()


def test_a_cancelled_operation_says_so():
    status = MPI.Status()
    fill_status(status, MPI.ANY_SOURCE, MPI.ANY_TAG, MPI.SUCCESS, 0, cancelled=True)
    assert status.Is_cancelled()


def test_an_empty_status_is_the_standard_s():
    status = MPI.Status()
    fill_status(status, 3, 17, MPI.ERR_TRUNCATE, 5, cancelled=True)
    fill_empty(status)
    assert (status.source, status.tag) == (MPI.ANY_SOURCE, MPI.ANY_TAG)
    assert status.error == MPI.SUCCESS
    assert status.count == 0
    assert not status.Is_cancelled()


def test_something_else_than_a_status_is_refused():
    with pytest.raises(TypeError):
        fill_status(object(), 0, 0, MPI.SUCCESS, 0, cancelled=False)
