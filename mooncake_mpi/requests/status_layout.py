"""Finding out how the MPI library lays out ``MPI_Status``, so that the engine fills it by itself.

Called once, in the thread that starts the engine, without a lock. MPI fixes the names of three
fields and leaves the rest to the library (MPI 4.1, section 3.2.5). The offsets are found by setting
fields through the library and looking where the bytes change; a layout that does not read back as
it was written is not used.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from mpi4py import MPI

from mooncake_mpi import _native

_SOURCE, _TAG, _ERROR = 0x1A2B3C4D, 0x5E6F7A8B - 0x40000000, MPI.ERR_TRUNCATE
_BYTES = 0x2_8765_4321  # more than 32 bits, so that a split count shows
_WHOLE, _SPLIT = 64, 32


class Layout(NamedTuple):
    """Offsets in bytes from the start of a Status object, as the engine takes them."""

    source: int
    tag: int
    error: int
    nbytes: int
    cancelled: int
    split_bit: int


def teach() -> bool:
    """Let the engine fill Status objects by itself, if their layout is understood."""
    layout = find()
    if layout is not None:
        _native.learn_status(*layout)
        if _reads_back():
            return True
    forget()
    return False


def forget() -> None:
    """Leave Status objects to the package."""
    _native.learn_status(*Layout(0, 0, 0, 0, 0, _WHOLE))


def find() -> Layout | None:
    """The layout of the running library's status, ``None`` if it is not one that is known."""
    status = MPI.Status()
    status.Set_source(_SOURCE)
    status.Set_tag(_TAG)
    status.Set_error(_ERROR)
    status.Set_elements(MPI.BYTE, _BYTES)
    before = _raw(status)
    status.Set_cancelled(flag=True)
    changed = [
        at for at, (old, new) in enumerate(zip(before, _raw(status), strict=True)) if old != new
    ]
    places = [_find(before, value, 4) for value in (_SOURCE, _TAG, _ERROR)]
    for split_bit, word in ((_WHOLE, _BYTES), (_SPLIT, _split(_BYTES))):
        count = _find(before, word, 8)
        if count is None or None in places or len(changed) != 1:
            continue
        inside = count <= changed[0] < count + 8
        if inside == (split_bit == _WHOLE):
            continue  # the bit of a cancelled operation belongs to a split count only
        start = MPI._addressof(status) - id(status)
        source, tag, error = (start + place for place in places if place is not None)
        cancelled = 0 if inside else start + changed[0]
        return Layout(source, tag, error, start + count, cancelled, split_bit)
    return None


def _split(count: int) -> int:
    low = (1 << _SPLIT) - 1
    return (count & low) | (count & ~low) << 1


def _raw(status: MPI.Status) -> bytes:
    return ctypes.string_at(MPI._addressof(status), MPI._sizeof(MPI.Status))


def _find(raw: bytes, value: int, width: int) -> int | None:
    """Where ``value`` lies, ``None`` unless at exactly one place."""
    pattern = value.to_bytes(width, "little")
    places = [at for at in range(0, len(raw) - width + 1, 4) if raw[at : at + width] == pattern]
    return places[0] if len(places) == 1 else None


def _reads_back() -> bool:
    for source, tag, error, nbytes in (
        (0, 0, MPI.SUCCESS, 0),
        (MPI.ANY_SOURCE, MPI.ANY_TAG, MPI.SUCCESS, 0),
        (MPI.PROC_NULL, 7, MPI.ERR_TRUNCATE, 12345),
        (3, 2**31 - 1, MPI.SUCCESS, 2**31),
        (3, 1, MPI.SUCCESS, 2**40 + 2**32 + 5),
    ):
        status, library = MPI.Status(), MPI.Status()
        status.Set_cancelled(flag=True)
        _native.write_status(status, source, tag, error, nbytes)
        library.Set_source(source)
        library.Set_tag(tag)
        library.Set_error(error)
        library.Set_elements(MPI.BYTE, nbytes)
        if _shown(status) != _shown(library) or status.Get_elements(MPI.BYTE) != nbytes:
            return False
    return True


def _shown(status: MPI.Status) -> tuple[object, ...]:
    return (
        status.Get_source(),
        status.Get_tag(),
        status.Get_error(),
        status.Get_elements(MPI.BYTE),
        status.Get_count(MPI.BYTE),
        status.Is_cancelled(),
    )
