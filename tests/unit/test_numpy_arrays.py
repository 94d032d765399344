"""The engine reads an array's fields as NumPy shows them, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from mooncake_mpi import MPI, _native
from mooncake_mpi.buffers import numpy_arrays


@pytest.fixture(autouse=True)
def taught_again():
    MPI.COMM_SELF.Get_size()  # the engine runs
    yield
    assert numpy_arrays.teach()


def facts(array, **changes):
    """What NumPy says of ``array``, in the order of the native call, with ``changes``."""
    known = {
        "address": array.__array_interface__["data"][0],
        "bytes": array.nbytes,
        "contiguous": array.flags.contiguous,
        "writable": array.flags.writeable,
        "number": True,
    }
    return (known | changes).values()


def test_this_numpy_s_arrays_are_read_from_their_fields():
    assert numpy_arrays.teach()


@pytest.mark.parametrize(
    "lie",
    [{"address": 8}, {"bytes": 1}, {"contiguous": False}, {"writable": False}, {"number": False}],
    ids=lambda lie: next(iter(lie)),
)
def test_a_field_that_numpy_contradicts_is_noticed(lie):
    array = np.zeros(5)
    assert _native.learn_array_type(array, *facts(array))
    assert not _native.learn_array_type(array, *facts(array, **lie))


@pytest.mark.parametrize("learned", [True, False], ids=["fields", "buffer protocol"])
def test_every_sample_is_sent_or_refused_alike(learned):
    if not learned:
        _native.forget_array_type()
    comm = MPI.COMM_SELF
    for array in numpy_arrays.samples():
        number = array.dtype.kind in "biufc" and array.dtype.isnative
        if not (number and array.flags.forc):
            with pytest.raises((BufferError, KeyError, ValueError)):
                comm.Isend(array, 0)
            continue
        into = np.ones(array.shape, array.dtype, order="F" if array.flags.fnc else "C")
        request = comm.Isend(array, 0)
        comm.Recv(into, 0)
        request.Wait()
        assert np.array_equal(into, array)
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    with pytest.raises(BufferError, match="read-only"):
        comm.Irecv(frozen, 0)
