"""Errors are mpi4py's, with words."""

from __future__ import annotations

import pickle

import pytest
from mpi4py import MPI

from mooncake_mpi import errors


def test_an_error_is_an_mpi4py_exception_of_its_class():
    error = errors.make_error("ERR_RANK", "invalid rank: dest=7 is not in [0, 2)")
    assert isinstance(error, MPI.Exception)
    assert error.Get_error_class() == MPI.ERR_RANK
    assert MPI.Get_error_class(error.Get_error_code()) == MPI.ERR_RANK
    assert error == MPI.ERR_RANK
    assert error.error_class == MPI.ERR_RANK


def test_the_text_is_the_class_and_the_reason():
    error = errors.make_error("ERR_RANK", "invalid rank: dest=7 is not in [0, 2)")
    assert str(error) == "MPI_ERR_RANK: invalid rank: dest=7 is not in [0, 2)"
    assert error.Get_error_string() == str(error)
    assert "ERR_RANK" in repr(error)


def test_raise_error_raises_it():
    with pytest.raises(errors.Error, match="MPI_ERR_TAG: tag=-5"):
        errors.raise_error("ERR_TAG", "tag=-5 is negative")


def test_an_error_survives_pickling():
    error = errors.make_error("ERR_TRUNCATE", "message truncated")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is errors.Error
    assert (again, str(again)) == (MPI.ERR_TRUNCATE, str(error))


@pytest.mark.parametrize("name", ["ERR_PROC_FAILED", "ERR_REVOKED", "ERR_NO_SUCH_CLASS"])
def test_a_class_that_the_library_lacks_keeps_its_name_and_is_no_success(name):
    error = errors.make_error(name, "rank 3 is gone")
    assert str(error) == f"MPI_{name}: rank 3 is gone"
    assert error.Get_error_class() not in {MPI.SUCCESS, MPI.ERR_UNKNOWN}


def test_an_error_without_words_has_the_library_s():
    assert str(errors.Error(MPI.ERR_TAG)) == MPI.Get_error_string(MPI.ERR_TAG)
    assert errors.Error(MPI.ERR_TAG).name == "ERR_TAG"
    assert errors.Error().name == "SUCCESS"
