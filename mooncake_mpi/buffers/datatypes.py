"""What a buffer specification needs to know of an MPI datatype (MPI 4.1, chapter 5).

Called in the program's threads, no lock of its own. A datatype whose bytes lie in memory in the
order of its type map, without a gap, is sent from and received into where it lies;
:func:`layout_of` finds such types by decoding their constructors. Size and extent alone cannot
tell: a permuted type map has the size and the extent of a contiguous one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from sys import byteorder
from typing import Any

from mpi4py import MPI

from mooncake_mpi.buffers.typemaps import data_start

#: Type codes that some MPI libraries have no datatype for, with their width in bytes. A block of
#: bytes carries them: the engine converts nothing.
_WIDTHS = {"e": 2, "f2": 2, "Ze": 4, "E": 4, "c4": 4}


@dataclass(frozen=True)
class Layout:
    """The shape of one element of a datatype; everything in bytes.

    Attributes:
        size: data bytes of one element.
        lower_bound: where an element starts, relative to its address.
        extent: distance of two consecutive elements.
        true_lower_bound: where the first data byte lies, relative to the element's address.
        true_extent: distance from the first to the last data byte.
        start: where the data starts if the type map walks through it in order and without a gap,
            else ``None``.
    """

    size: int
    lower_bound: int
    extent: int
    true_lower_bound: int
    true_extent: int
    start: int | None

    def run_start(self, count: int) -> int | None:
        """Where ``count`` elements start if they are one run of bytes in order, else ``None``."""
        return self.start if count == 1 or self.extent == self.size else None


def layout_of(datatype: MPI.Datatype) -> Layout:
    """The layout of a committed datatype; kept with the MPI datatype once it is known.

    Raises:
        MPI.Exception: ``ERR_TYPE`` if the datatype is null or not committed.
    """
    known = _predefined.get(datatype.handle)
    if known is not None:
        return known
    keyval = _layout_keyval()
    kept = datatype.Get_attr(keyval)
    if isinstance(kept, Layout):
        return kept
    layout = _measure(datatype)
    if datatype.is_predefined:
        _predefined[datatype.handle] = layout
        if layout.start == 0 and layout.extent == layout.size:
            _dense[datatype.handle] = layout.size
    else:
        _check_committed(datatype, layout)
        datatype.Set_attr(keyval, layout)
    return layout


def dense_size(kind: Any) -> int:
    """The size in bytes of a predefined datatype whose elements follow each other without a gap.

    Args:
        kind: a datatype or a type code.

    Returns:
        0 for everything else, and for a datatype that has not been used yet.
    """
    if isinstance(kind, str):
        datatype = MPI._typedict.get(kind)
        return 0 if datatype is None else _dense.get(datatype.handle, 0)
    return _dense.get(kind.handle, 0) if isinstance(kind, MPI.Datatype) else 0


def from_code(code: Any) -> MPI.Datatype:
    """The datatype of a type code: PEP 3118 (``"i"``, ``"Zd"``) or NumPy (``"i4"``, ``"D"``).

    Raises:
        KeyError: no MPI datatype has this code (``"cannot map ..."``, as mpi4py says it).
    """
    if isinstance(code, str):
        if code in _WIDTHS:
            return _optional(code)
        datatype = MPI._typedict.get(code)
        if datatype is not None:
            return datatype
    raise KeyError(f"cannot map {code!r} to MPI datatype")


def from_format(text: str) -> MPI.Datatype:
    """The datatype of a buffer's format string (PEP 3118).

    Raises:
        BufferError: the other byte order.
        KeyError: no MPI datatype has this format (objects, structures).
    """
    if text[:1] in _FOREIGN_ORDER:
        raise BufferError(
            f"message: format {text!r} has a byte order that is not this machine's: convert the "
            "array, or pass [buf, MPI.BYTE] to send its bytes as they are"
        )
    return from_code(text[1:] if text[:1] in _NATIVE_ORDER else text)


_NATIVE_ORDER, _FOREIGN_ORDER = (
    (("@", "<"), (">",)) if byteorder == "little" else (("@", ">"), ("<",))
)
_predefined: dict[int, Layout] = {}
_dense: dict[int, int] = {}


@cache
def _optional(code: str) -> MPI.Datatype:
    """The library's datatype where it has one that works, else a block of bytes as wide."""
    width = _WIDTHS[code]
    datatype = MPI._typedict.get(code, MPI.DATATYPE_NULL)
    try:
        if datatype.Get_size() == width:
            return datatype
    except MPI.Exception:  # a name without a type behind it
        pass
    return MPI.BYTE.Create_contiguous(width).Commit()


@cache
def _layout_keyval() -> int:
    return MPI.Datatype.Create_keyval()


def _check_committed(datatype: MPI.Datatype, layout: Layout) -> None:
    # MPI checks the datatype before it looks at the count; mpi4py divides by the extent first.
    if layout.extent != 0:
        somewhere = MPI.buffer.allocate(1)
        datatype.Pack(somewhere[:0], somewhere, 0, MPI.COMM_SELF)


def _measure(datatype: MPI.Datatype) -> Layout:
    lower_bound, extent = datatype.Get_extent()
    true_lower_bound, true_extent = datatype.Get_true_extent()
    return Layout(
        datatype.Get_size(),
        lower_bound,
        extent,
        true_lower_bound,
        true_extent,
        data_start(datatype),
    )
