"""Buffer specifications: what a point-to-point call sends from or receives into.

Called in the program's threads, no lock of its own.

The forms are mpi4py's: ``buf``, ``[buf, count]``, ``[buf, datatype]``, ``[buf, (count, displ)]``,
``[buf, count, datatype]``, ``[buf, (count, displ), datatype]`` and
``[buf, count, displ, datatype]``; a datatype is an ``MPI.Datatype`` or a type code. Counts and
displacements are in elements of the datatype; without one, it follows from the buffer's format. A
tensor whose format MPI does not know (bfloat16) counts in bytes, as with mpi4py.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from sys import intern
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.buffers.datatypes import dense_size, from_code, from_format, layout_of
from mooncake_mpi.buffers.exporters import Memory, called, export, is_array, is_buffer
from mooncake_mpi.buffers.memory import owner_bounds
from mooncake_mpi.buffers.packing import PackedBuffer
from mooncake_mpi.buffers.typemaps import rows_of
from mooncake_mpi.errors import raise_error

if TYPE_CHECKING:
    from collections.abc import Callable

# mpi4py's own datatype objects, which live as long as the process.
_CONSTANTS = frozenset(id(value) for value in vars(MPI).values() if type(value) is MPI.Datatype)
_NOTHING = Memory(0, 0, "B", None)
_LONGEST = 2**63 - 1
_FIRST_ADDRESS = 4096  # no process has memory below


@dataclass(frozen=True)
class Elements:
    """``count`` elements of ``datatype`` at ``address``.

    Attributes:
        address: of the first element; 0 with ``MPI.BOTTOM`` or ``None``.
        count: number of elements.
        datatype: may be null or uncommitted: :func:`place` refuses it.
        memory: what the caller's buffer exports.
        buffer: the object that the caller gave.
    """

    address: int
    count: int
    datatype: MPI.Datatype
    memory: Memory
    buffer: Any


#: Address, length, what holds the memory, what ends a receive, and a GPU's stream: see
#: :class:`Placed`.
Place: TypeAlias = "tuple[int, int, Any, Callable[[int], object] | None, int | None]"


class Placed(NamedTuple):
    """Bytes to send from or to receive into.

    Attributes:
        address: of the first byte.
        nbytes: length.
        keepalive: holds the memory; a :class:`PackedBuffer` where the datatype is scattered.
        finish: for a receive that must be unpacked, to be called once with the received length.
        stream: of a GPU's memory, see :class:`Memory`; ``None`` for host memory.
    """

    address: int
    nbytes: int
    keepalive: Any
    finish: Callable[[int], object] | None
    stream: int | None = None


def resolve(spec: Any, writable: bool, rank: int) -> Place:
    """Find the bytes that ``spec`` describes; the engine calls this for all but plain buffers.

    Args:
        spec: any accepted form.
        writable: whether a message is received into it.
        rank: dest or source; with ``MPI.PROC_NULL`` the specification is not looked at.

    Raises:
        BufferError: memory that cannot be used as it is; the text says what to do.
        KeyError: a format or type code without an MPI datatype.
        TypeError: not a buffer or a specification.
        ValueError: a count or displacement that does not fit.
        MPI.Exception: ``ERR_TYPE``, a null or uncommitted datatype; ``ERR_BUFFER``, memory that the
            CUDA driver does not know, or no driver.
    """
    if rank == MPI.PROC_NULL:
        return Placed(0, 0, None, None)
    placed = place(parse(spec, writable), writable)
    if type(spec) in {list, tuple}:
        _teach(spec[-1])
    return placed


def _teach(kind: object) -> None:
    """Let the engine read the next specification with ``kind`` by itself."""
    if id(kind) in _CONSTANTS or (isinstance(kind, str) and kind in MPI._typedict):
        size = dense_size(kind)
        if size:
            _native.learn_datatype(intern(kind) if isinstance(kind, str) else kind, size)


def place(elements: Elements, writable: bool) -> Placed:
    """The bytes of ``elements``: where they lie if they are contiguous, else a packed copy.

    Raises:
        MPI.Exception: ``ERR_TYPE``, a null or uncommitted datatype; ``ERR_BUFFER``, no address.
        ValueError: the elements reach beyond the buffer's memory.
    """
    address, count, datatype = elements.address, elements.count, elements.datatype
    if datatype == MPI.DATATYPE_NULL:
        raise_error("ERR_TYPE", "message: the datatype is null")
    layout = layout_of(datatype)
    nbytes = count * layout.size
    if nbytes == 0:
        return Placed(0, 0, elements.memory.owner, None)
    if nbytes > _LONGEST:
        raise ValueError(f"message: {count} elements of {layout.size} bytes are too many")
    first = address + layout.true_lower_bound + min(0, (count - 1) * layout.extent)
    end = first + abs((count - 1) * layout.extent) + layout.true_extent
    if 0 <= first < _FIRST_ADDRESS:
        raise_error("ERR_BUFFER", "message: MPI.BOTTOM needs a datatype of absolute addresses")
    _check_bounds(elements, first, end)
    start = layout.run_start(count)
    if elements.memory.stream is not None:
        return _place_on_gpu(elements, start, nbytes, writable)
    if start is not None:
        return Placed(address + start, nbytes, elements.memory.owner, None)
    packed = PackedBuffer(address, count, datatype, layout, elements.memory.owner)
    return Placed(packed.address, nbytes, packed, packed.unpack if writable else None)


def _place_on_gpu(elements: Elements, start: int | None, nbytes: int, writable: bool) -> Placed:
    name = called(elements.buffer, writable)
    rows = rows_of(elements.datatype, elements.count) if start is None else None
    if start is None and rows is None:
        raise BufferError(
            f"message: {name} is in a GPU's memory, where no datatype with gaps but a vector is "
            f"packed: pass a contiguous array{' and copy the result' if writable else ''}"
        )
    address = elements.address + (rows.start if rows is not None else start or 0)
    length = nbytes if rows is None else (rows.rows - 1) * rows.pitch + rows.row_bytes
    objection = _native.gpu_objection(address, length)
    if objection:
        raise_error("ERR_BUFFER", f"message: {name}: {objection}")
    if rows is not None:
        gathered = _native.GpuRows(
            address,
            rows.row_bytes,
            rows.pitch,
            rows.rows,
            elements.memory.stream or 0,
            bool(writable),
        )
        keepalive = (gathered, elements.memory.owner)
        return Placed(gathered.address, nbytes, keepalive, gathered.unpack, elements.memory.stream)
    return Placed(address, nbytes, elements.memory.owner, None, elements.memory.stream)


def parse(spec: Any, writable: bool, blocks: int = 1) -> Elements:
    """Read a specification.

    Args:
        spec: any accepted form.
        writable: whether a message is received into it.
        blocks: number of equal parts; the count is that of one part, and an inferred one is the
            buffer's divided by ``blocks``.

    Raises:
        BufferError, KeyError, TypeError, ValueError: as :func:`resolve`.
    """
    buffer, count, displacement, kind = _split(spec)
    if buffer is None or buffer is MPI.BOTTOM:
        memory = _NOTHING
        datatype = _datatype(kind)
    else:
        memory = export(buffer, writable, with_format=kind is None)
        datatype = from_format(memory.format) if kind is None else _datatype(kind)
    offset = 0
    if displacement is not None:
        offset = _offset(index(displacement), datatype, memory.nbytes)
    if count is None:
        count = _infer_count(memory.nbytes - offset, datatype, blocks)
    else:
        count = index(count)
        if count < 0:
            raise ValueError(f"message: negative count {count}")
        if count > 0 and buffer is None:
            raise ValueError(f"message: buffer is None but count is {count}")
    return Elements(memory.address + offset, count, datatype, memory, buffer)


def _split(spec: Any) -> tuple[Any, Any, Any, Any]:
    """Buffer, count, displacement and datatype of a specification, ``None`` where not given."""
    if is_buffer(spec):
        return spec, None, None, None
    if not isinstance(spec, (list, tuple)):
        if is_array(spec):
            return spec, None, None, None
        raise TypeError(f"message: expecting buffer or list/tuple, not {type(spec).__name__}")
    displacement = kind = None
    if len(spec) == 2:
        buffer, count = spec
        if isinstance(count, (MPI.Datatype, str)):
            return buffer, None, None, count
    elif len(spec) == 3:
        buffer, count, kind = spec
    elif len(spec) == 4:
        buffer, count, displacement, kind = spec
        return buffer, count, displacement, kind
    else:
        raise ValueError(f"message: expecting 2 to 4 items, not {len(spec)}")
    if isinstance(count, (list, tuple)):
        count, displacement = count
    return buffer, count, displacement, kind


def _datatype(kind: Any) -> MPI.Datatype:
    return kind if isinstance(kind, MPI.Datatype) else from_code(kind)


def _extent(datatype: MPI.Datatype, what: str) -> int:
    if datatype == MPI.DATATYPE_NULL:
        raise ValueError(f"message: cannot {what}, datatype is null")
    lower_bound, extent = datatype.Get_extent()
    if extent <= 0:
        raise ValueError(
            f"message: cannot {what}, datatype extent {extent} "
            f"(lb:{lower_bound}, ub:{lower_bound + extent})"
        )
    return extent


def _offset(displacement: int, datatype: MPI.Datatype, nbytes: int) -> int:
    if displacement < 0:
        raise ValueError(f"message: negative displacement {displacement}")
    if displacement == 0:
        return 0
    extent = _extent(datatype, "handle displacement")
    if displacement * extent > nbytes:
        raise ValueError(
            f"message: displacement {displacement} out of bounds, "
            f"number of datatype entries {nbytes // extent}"
        )
    return displacement * extent


def _infer_count(nbytes: int, datatype: MPI.Datatype, blocks: int) -> int:
    if nbytes == 0:
        return 0
    extent = _extent(datatype, "infer count")
    if nbytes % extent != 0:
        raise ValueError(
            f"message: cannot infer count, buffer length {nbytes} is not a multiple of "
            f"datatype extent {extent}"
        )
    entries = nbytes // extent
    if blocks < 2:
        return entries
    if entries % blocks != 0:
        raise ValueError(
            f"message: cannot infer count, number of entries {entries} is not a multiple of "
            f"required number of blocks {blocks}"
        )
    return entries // blocks


def _check_bounds(elements: Elements, first: int, end: int) -> None:
    memory = elements.memory
    if memory.address <= first and end <= memory.address + memory.nbytes:
        return
    bounds = owner_bounds(elements.buffer)
    if bounds is None and memory.stream is not None:  # what lies around it may be another array's
        bounds = memory.address, memory.address + memory.nbytes
    if bounds is None or (bounds[0] <= first and end <= bounds[1]):
        return
    origin, limit = bounds
    raise ValueError(
        f"message: buffer too small: {elements.count} elements reach from byte {first - origin} "
        f"to byte {end - origin} of {limit - origin}"
    )
