"""Buffers of scattered datatypes, packed and unpacked by the MPI library.

Called in the program's threads, and in the completer's where that ends an operation; no lock of its
own. A packed message is the data of its type map in order, so that it matches a receive with any
datatype of the same type signature (MPI 4.1, section 3.3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpi4py import MPI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mooncake_mpi.buffers.datatypes import Layout

# Older MPI libraries count packed bytes in an int.
_PIECE_BYTES = 1 << 30


class PackedBuffer:
    """Elements of a scattered datatype in user memory, with a packed copy of them.

    The copy is filled when the object is made, for a receive too: a shorter message then leaves the
    rest of the user's buffer as it was. The datatype may be freed meanwhile.

    Args:
        address: of the first element (0 with ``MPI.BOTTOM``).
        count: number of elements.
        datatype: committed.
        layout: the datatype's.
        owner: keeps the user's memory alive.
    """

    __slots__ = ("_address", "_count", "_datatype", "_layout", "_owner", "_packed")

    def __init__(
        self, address: int, count: int, datatype: MPI.Datatype, layout: Layout, owner: Any
    ) -> None:
        self._packed = MPI.buffer.allocate(count * layout.size)
        self._address = address
        self._count = count
        self._layout = layout
        self._owner = owner
        self._datatype = datatype.Dup()
        self.pack()

    def __del__(self) -> None:
        if hasattr(self, "_datatype") and not MPI.Is_finalized():
            self._datatype.Free()

    @property
    def address(self) -> int:
        """Address of the packed copy."""
        return self._packed.address

    @property
    def nbytes(self) -> int:
        """Length of the packed copy."""
        return self._packed.nbytes

    def pack(self) -> None:
        """Copy the user's elements into the packed copy, at each start of a persistent request."""
        self.pack_range(0, self._count)

    def pack_range(self, first: int, end: int) -> None:
        """Copy elements ``first`` to ``end`` into their place in the packed copy."""
        for elements, datatype, packed in self._pieces(first, end):
            datatype.Pack(elements, packed, 0, MPI.COMM_SELF)

    def unpack(self, nbytes: int) -> None:
        """Copy the packed copy, whose first ``nbytes`` were received, into the user's elements."""
        if nbytes > 0:
            self.unpack_range(0, self._count)

    def unpack_range(self, first: int, end: int) -> None:
        """Copy the packed copy of elements ``first`` to ``end`` into the user's memory."""
        for elements, datatype, packed in self._pieces(first, end):
            datatype.Unpack(packed, 0, elements, MPI.COMM_SELF)

    def _pieces(
        self, begin: int, end: int
    ) -> Iterator[tuple[MPI.buffer, MPI.Datatype, MPI.buffer]]:
        """Runs of elements, each with the datatype that covers the run and its packed bytes."""
        size, extent = self._layout.size, self._layout.extent
        step = max(1, _PIECE_BYTES // size)
        for first in range(begin, end, step):
            count = min(step, end - first)
            address = self._address + first * extent
            packed = MPI.buffer.fromaddress(self.address + first * size, count * size)
            if extent > 0 and self._address != 0:
                yield MPI.buffer.fromaddress(address, count * extent), self._datatype, packed
            else:
                yield from self._anchored(address, count, packed)

    def _anchored(
        self, address: int, count: int, packed: MPI.buffer
    ) -> Iterator[tuple[MPI.buffer, MPI.Datatype, MPI.buffer]]:
        """One run as one element, one byte wide, of a datatype that reaches it from ``packed``.

        mpi4py counts elements by dividing by their extent, and takes no null address.
        """
        distance = MPI.Aint_diff(address, packed.address)
        run = MPI.Datatype.Create_struct([count], [distance], [self._datatype])
        element = run.Create_resized(0, 1).Commit()
        run.Free()
        try:
            yield MPI.buffer.fromaddress(packed.address, 1), element, packed
        finally:
            element.Free()
