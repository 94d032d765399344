"""Memory made for messages behind ordinary NumPy arrays (NEP 49).

With ``MOONCAKE_MPI_NUMPY=1``, or inside :class:`numpy_allocator`, arrays that a program makes in
the usual ways lie in memory that every process of the node can map, if they are large enough.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mooncake_mpi import _native, config
from mooncake_mpi.memory import shared_arrays

if TYPE_CHECKING:
    from types import TracebackType

#: Arrays of so many bytes and more are worth it, unless said otherwise: smaller ones are sent
#: about as fast from anywhere, and would waste parts of pages.
DEFAULT_THRESHOLD_BYTES = 64 << 10

_handlers: dict[int, Any] = {}


class numpy_allocator:  # noqa: N801 - used as a function
    """A context manager: NumPy arrays made inside it lie in memory made for messages.

    Arrays made inside may be used, resized and freed outside, and the other way round. As NumPy's
    own setting, it holds for the current context (:mod:`contextvars`): a thread that is started
    inside it allocates as before.

    Args:
        threshold_bytes: the smallest array that gets such memory; ``None`` for the setting
            ``MOONCAKE_MPI_NUMPY_THRESHOLD``, which is 64 KiB if not set.

    Raises:
        ValueError: the threshold is negative.

    Example::

        with mooncake_mpi.numpy_allocator():
            field = numpy.zeros((4096, 4096))
    """

    def __init__(self, threshold_bytes: int | None = None) -> None:
        if threshold_bytes is None:
            threshold_bytes = config.load().numpy_threshold_bytes
        if threshold_bytes is None:
            threshold_bytes = DEFAULT_THRESHOLD_BYTES
        if threshold_bytes < 0:
            raise ValueError("threshold_bytes must not be negative")
        self._threshold_bytes = threshold_bytes
        self._previous: list[Any] = []

    def __enter__(self) -> None:
        """Install the allocator."""
        self._previous.append(install(self._threshold_bytes))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put back the one that was there."""
        _native.set_numpy_handler(_array_api(), self._previous.pop())


def install(threshold_bytes: int) -> Any:
    """Make the allocator the current context's.

    Returns:
        The one that it replaces, a capsule.
    """
    shared_arrays.set_limits()
    api = _array_api()
    if threshold_bytes not in _handlers:
        _handlers[threshold_bytes] = _native.make_numpy_handler(api, threshold_bytes)
    return _native.set_numpy_handler(api, _handlers[threshold_bytes])


def install_if_set() -> None:
    """Install the allocator for good if ``MOONCAKE_MPI_NUMPY`` says so."""
    if config.load().numpy:
        numpy_allocator().__enter__()


def _array_api() -> Any:
    name = "numpy._core._multiarray_umath"
    try:
        module = import_module(name)
    except ModuleNotFoundError:  # before NumPy 2
        module = import_module("numpy.core._multiarray_umath")
    return module._ARRAY_API
