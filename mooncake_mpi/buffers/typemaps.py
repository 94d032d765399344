"""Whether a datatype's type map walks through memory in order and without a gap.

Called in the program's threads, no lock of its own. MPI's constructors are decoded (MPI 4.1,
section 5.1.13); a type that is not understood, such as a distributed array, counts as scattered,
which is always safe: it is then packed.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from mpi4py import MPI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class _Element(NamedTuple):
    """One element of a datatype, in bytes; ``start`` is ``None`` if its data is scattered."""

    size: int
    extent: int
    start: int | None

    def run_start(self, count: int) -> int | None:
        """Where ``count`` consecutive elements start if they are one run of bytes."""
        return self.start if count == 1 or self.extent == self.size else None


def data_start(datatype: MPI.Datatype) -> int | None:
    """Where one element's data starts, in bytes from its address, if it is a gapless run in order.

    Returns:
        The offset, or ``None`` if the data is scattered, not in the order of addresses, or empty.
    """
    size = datatype.Get_size()
    true_lower_bound, true_extent = datatype.Get_true_extent()
    if size == 0 or size != true_extent:
        return None
    if datatype.is_predefined:
        return true_lower_bound
    base, combiner, params = datatype.decode()
    children = params.get("datatypes", [base])
    try:
        find = _COMBINERS.get(combiner)
        return None if find is None else find([_element(child) for child in children], params)
    finally:
        for child in children:
            if not child.is_predefined:
                child.Free()


class Rows(NamedTuple):
    """Runs of bytes of one length, each as far behind the one before; in bytes."""

    start: int
    row_bytes: int
    pitch: int
    rows: int


def rows_of(datatype: MPI.Datatype, count: int) -> Rows | None:
    """Where the data of ``count`` elements lies, if these are vectors of what has no gaps.

    Returns:
        ``None`` for any other datatype, and where rows overlap or go backwards.
    """
    if datatype.is_predefined:
        return None
    base, combiner, params = datatype.decode()
    try:
        if combiner not in {"VECTOR", "HVECTOR"}:
            return None
        element = _element(base)
        start = element.run_start(params["blocklength"])
        pitch = params["stride"] * (element.extent if combiner == "VECTOR" else 1)
        row_bytes = params["blocklength"] * element.size
        even = count == 1 or datatype.Get_extent()[1] == params["count"] * pitch
        if start is None or pitch < row_bytes or row_bytes == 0 or not even:
            return None
        return Rows(start, row_bytes, pitch, count * params["count"])
    finally:
        if not base.is_predefined:
            base.Free()


def _element(datatype: MPI.Datatype) -> _Element:
    return _Element(datatype.Get_size(), datatype.Get_extent()[1], data_start(datatype))


def _join(pieces: Iterable[tuple[int, int, _Element]]) -> int | None:
    """The start of ``(displacement, count, element)`` pieces if each begins where one ended."""
    first = end = None
    for displacement, count, element in pieces:
        if count == 0 or element.size == 0:
            continue
        start = element.run_start(count)
        if start is None:
            return None
        begin = displacement + start
        if first is None:
            first = begin
        elif begin != end:
            return None
        end = begin + count * element.size
    return first


def _same(children: list[_Element], _params: dict[str, Any]) -> int | None:
    return children[0].start


def _contiguous(children: list[_Element], params: dict[str, Any]) -> int | None:
    return _join([(0, params["count"], children[0])])


def _strided(element: _Element, count: int, blocklength: int, stride_bytes: int) -> int | None:
    if count > 1 and stride_bytes != blocklength * element.size:
        return None
    return _join([(0, blocklength, element)])


def _vector(children: list[_Element], params: dict[str, Any]) -> int | None:
    (element,) = children
    stride_bytes = params["stride"] * element.extent
    return _strided(element, params["count"], params["blocklength"], stride_bytes)


def _hvector(children: list[_Element], params: dict[str, Any]) -> int | None:
    return _strided(children[0], params["count"], params["blocklength"], params["stride"])


def _blocks(children: list[_Element], params: dict[str, Any], unit: int) -> int | None:
    displacements = params["displacements"]
    lengths = params.get("blocklengths")
    if lengths is None:
        lengths = [params["blocklength"]] * len(displacements)
    elements = children * len(displacements) if len(children) == 1 else children
    return _join(
        (displacement * unit, length, element)
        for displacement, length, element in zip(displacements, lengths, elements, strict=True)
    )


def _indexed(children: list[_Element], params: dict[str, Any]) -> int | None:
    return _blocks(children, params, children[0].extent)


def _hindexed(children: list[_Element], params: dict[str, Any]) -> int | None:
    return _blocks(children, params, 1)


def _subarray(children: list[_Element], params: dict[str, Any]) -> int | None:
    (element,) = children
    axes = list(zip(params["sizes"], params["subsizes"], params["starts"], strict=True))
    if params["order"] == MPI.ORDER_C:
        axes.reverse()  # fastest axis first
    start = element.run_start(prod(taken for _, taken, _ in axes))
    stride, cut = element.extent, False
    for size, taken, first in axes:
        if start is None or (cut and taken != 1):
            return None  # rows beyond a cut axis leave a gap
        start += first * stride
        cut = cut or taken != size
        stride *= size
    return start


_COMBINERS: dict[str, Callable[[list[_Element], dict[str, Any]], int | None]] = {
    "DUP": _same,
    "RESIZED": _same,
    "CONTIGUOUS": _contiguous,
    "VECTOR": _vector,
    "HVECTOR": _hvector,
    "INDEXED": _indexed,
    "HINDEXED": _hindexed,
    "INDEXED_BLOCK": _indexed,
    "HINDEXED_BLOCK": _hindexed,
    "STRUCT": _hindexed,
    "SUBARRAY": _subarray,
}
