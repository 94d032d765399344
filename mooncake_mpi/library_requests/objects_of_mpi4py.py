"""Where mpi4py keeps the object that ``wait()`` of a generalized request gives.

``Grequest.complete(obj)`` puts it into a box that the request holds. A copy of the request holds
the same box. So that the copy gives the object too, whenever it was made, an operation's box is
there from the start and is filled when the operation is complete.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from typing import Any

from mpi4py import MPI


def keep(handle: MPI.Grequest, obj: Any) -> None:
    """Put ``obj`` into a new box of ``handle``, whose operation mpi4py did not start."""
    # It puts the object there, and refuses to tell the library about what it did not start.
    with suppress(MPI.Exception):
        MPI.Grequest.complete(handle, obj)


class Place:
    """An empty box and the address of what it holds."""

    def __init__(self, box: Any, address: int) -> None:
        self._box = box
        self._address = ctypes.c_void_p.from_address(address)

    def fill(self, obj: Any) -> None:
        """Put ``obj`` into the box in place of ``None``."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(obj))
        self._address.value = id(obj)
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(None))


def place_of(handle: MPI.Grequest) -> Place | None:
    """A new box of ``handle``; ``None`` if it does not lie where it is looked for."""
    keep(handle, None)
    for box in gc.get_referents(handle):
        kind = type(box)
        if kind.__name__ == "_p_req_obj" and kind.__basicsize__ == object.__basicsize__ + 8:
            address = id(box) + object.__basicsize__
            if ctypes.c_void_p.from_address(address).value == id(None):
                return Place(box, address)
    return None
