"""Whether the engine may read NumPy arrays from their fields (``PyArrayObject`` in NumPy's C API).

NumPy keeps those fields as they are for the sake of compiled extensions. They are tried all the
same: where one differs from what NumPy says, arrays are read through the buffer protocol.

A program that uses no NumPy does not pay for its import: it is looked at when it is there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mooncake_mpi import _native
from mooncake_mpi.buffers import exporters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import numpy as np


def teach_when_met() -> None:
    """Let the engine read arrays by itself, now or from the first one that it is given."""
    if "numpy" in sys.modules:
        teach()
    else:
        _native.set_array_teacher(_is_met)


def _is_met(kind: type) -> bool:
    """Whether ``kind``, a type of buffers that is new to the engine, was what it waits for."""
    if kind.__module__ != "numpy" or kind.__name__ != "ndarray":
        return False
    teach()
    return True


def teach() -> bool:
    """Let the engine read arrays by itself if it sees samples as NumPy does."""
    import numpy as np

    exporters.PLAIN_TYPES.add(np.ndarray)
    for array in samples():
        flags = array.flags
        if not _native.learn_array_type(
            array,
            array.__array_interface__["data"][0],
            array.nbytes,
            flags.c_contiguous or flags.f_contiguous,
            flags.writeable,
            array.dtype.kind in "biufc" and array.dtype.isnative,
        ):
            _native.forget_array_type()
            return False
    return True


def samples() -> Iterator[np.ndarray[Any, Any]]:
    """Arrays that differ in everything that is read."""
    import numpy as np

    for code in "?bBhHiIlLqQefdgFDG":
        yield np.zeros((2, 3), code)
    yield np.zeros((), "f8")
    yield np.zeros((0, 5), "f8")
    yield np.zeros((4, 5, 6), "i4").T
    yield np.zeros((4, 6), "f4")[:, ::2]
    yield np.zeros(7, ">f4")
    yield np.zeros(7, "M8[s]")
    yield np.zeros(7, "O")
    yield np.zeros(7, "S5")
    yield np.zeros(7, [("a", "i4"), ("b", "f8")])
    frozen = np.arange(9.0)[2:7]
    frozen.flags.writeable = False
    yield frozen
