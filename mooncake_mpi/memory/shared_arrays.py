"""Arrays in memory that every process of the node can map.

Called in the program's threads; the allocator in the engine has the lock. A message between two
such arrays is copied by loads and stores of both processes, without system calls; a message from or
to one of them is copied that way by the other process alone. RDMA adapters know it from its first
message on. Any other array can be sent as well.

The memory is shared with forked children in one direction: a child sees what its parent wrote, and
what the child writes stays its own.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from mooncake_mpi import _native, config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Shape = int | Sequence[int]


def empty(
    shape: Shape, dtype: DTypeLike | None = None, order: Literal["C", "F"] = "C"
) -> NDArray[Any]:
    """A new array without initial values, in memory made for messages.

    It is freed with the last array, tensor or memoryview that shows it.

    Args:
        shape: the lengths of its dimensions, or one length.
        dtype: the type of its elements; ``None`` means ``float64``. Objects are refused: their
            addresses mean nothing elsewhere.
        order: row-major (``"C"``) or column-major (``"F"``).

    Raises:
        MemoryError: the system has no memory, of whatever kind.
        ValueError: a negative length, or elements that are Python objects.

    See Also:
        numpy.empty
    """
    return _make(shape, dtype, order, zeroed=False)


def zeros(
    shape: Shape, dtype: DTypeLike | None = None, order: Literal["C", "F"] = "C"
) -> NDArray[Any]:
    """A new array of zeros, in memory made for messages; arguments as for :func:`empty`.

    See Also:
        numpy.zeros
    """
    return _make(shape, dtype, order, zeroed=True)


def empty_like(
    prototype: ArrayLike,
    dtype: DTypeLike | None = None,
    order: Literal["C", "F", "A", "K"] = "K",
    shape: Shape | None = None,
) -> NDArray[Any]:
    """A new array of the shape and type of ``prototype``, in memory made for messages.

    Args:
        prototype: an array, or what NumPy makes one of.
        dtype: replaces the type of its elements.
        order: ``"C"``, ``"F"``, or that of ``prototype`` (``"A"``, and ``"K"``: a prototype that is
            neither row- nor column-major gives a row-major array).
        shape: replaces its shape.

    See Also:
        numpy.empty_like
    """
    import numpy as np

    array: NDArray[Any] = np.asanyarray(prototype)
    column_major = order == "F" or (
        order != "C" and array.flags.f_contiguous and not array.flags.c_contiguous
    )
    return empty(
        array.shape if shape is None else shape,
        array.dtype if dtype is None else dtype,
        "F" if column_major else "C",
    )


def usage() -> dict[str, int]:
    """What memory made for messages this process holds.

    Returns:
        ``regions``: pieces that peers can map; ``live_bytes``: in use; ``kept_bytes``: freed, and
        kept for the next allocation; ``refused``: allocations that took ordinary memory because
        descriptors, address space or memory were used up.
    """
    return _native.shared_memory_usage()


def _make(
    shape: Shape, dtype: DTypeLike | None, order: Literal["C", "F"], *, zeroed: bool
) -> NDArray[Any]:
    import numpy as np

    set_limits()
    kind = np.dtype(dtype)
    if kind.hasobject:
        raise ValueError("elements that are Python objects cannot lie in shared memory")
    # An array of that shape that takes no memory: NumPy checks the shape, and knows the size.
    described = np.broadcast_to(np.empty((), kind), shape)
    buffer = _native.allocate_shared(described.nbytes, zeroed)
    array: NDArray[Any] = np.ndarray(described.shape, kind, memoryview(buffer), order=order)
    return array


@cache
def set_limits() -> None:
    """Apply the settings, once: memory may be wanted before the engine is."""
    keep_bytes = config.load().memory_keep_bytes
    if keep_bytes is not None:
        _native.keep_shared_memory(keep_bytes)
