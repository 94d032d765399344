"""Streams of GPUs, whatever library they are of.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from operator import index
from typing import Any


def handle_of(stream: Any) -> int | None:
    """The driver's handle of a stream: of torch, CuPy, or what has ``__cuda_stream__``, or an int.

    ``None`` is none: the stream of the array is meant.

    Raises:
        TypeError: it is no stream.
    """
    if stream is None:
        return None
    if isinstance(stream, int):
        return index(stream)
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        # a method; of older libraries a property
        version, handle = protocol() if callable(protocol) else protocol
        if version != 0:
            raise TypeError(f"stream: version {version} of __cuda_stream__ is not known")
        return index(handle)
    for name in ("cuda_stream", "ptr"):  # torch's, CuPy's
        handle = getattr(stream, name, None)
        if isinstance(handle, int):
            return handle
    raise TypeError(f"stream: expected a stream of a GPU, got {type(stream).__name__}")
