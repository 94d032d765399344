"""Memory of GPUs that other processes can open, by CuPy's and torch's own pools.

Called in the program's threads. Like the libraries' own context managers, entering holds for the
thread that does; torch's setting of expandable segments is the process's, and has a lock.

The driver lets other processes open what ``cudaMalloc`` gave, and not what comes of
``cudaMallocAsync`` or of the mapped pieces of torch's expandable segments.
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack, contextmanager
from threading import Lock, local
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_SETTING = "expandable_segments"


class GpuPool:
    """The pools of a process, see :func:`gpu_pool`. Each is made when it is first asked for."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entered = local()
        self._cupy: Any = None
        self._torch: Any = None
        self._inside = 0  # threads that have torch's setting changed
        self._kept = ""  # that setting

    @property
    def cupy(self) -> Any:
        """A ``cupy.cuda.MemoryPool``, for ``cupy.cuda.set_allocator(gpu_pool().cupy.malloc)``.

        Raises:
            ImportError: there is no CuPy.
        """
        import cupy

        with self._lock:
            if self._cupy is None:
                self._cupy = cupy.cuda.MemoryPool()  # over cudaMalloc
            return self._cupy

    @property
    def torch(self) -> Any:
        """A ``torch.cuda.MemPool``, whose memory is what it should be if it is used by ``with``.

        Raises:
            ImportError: there is no torch.
            RuntimeError: torch takes all memory from ``cudaMallocAsync``, or has no such pools.
        """
        import torch

        if torch.cuda.get_allocator_backend() == "cudaMallocAsync":
            raise RuntimeError(
                "torch's allocator is cudaMallocAsync, which has no pools: take "
                "backend:cudaMallocAsync out of PYTORCH_ALLOC_CONF (or PYTORCH_CUDA_ALLOC_CONF)"
            )
        if not hasattr(torch.cuda, "use_mem_pool"):
            raise RuntimeError(
                f"torch {torch.__version__} has no pools; torch.cuda.MemPool came in 2.5"
            )
        with self._lock:
            if self._torch is None:
                self._torch = torch.cuda.MemPool()
            return self._torch

    def __enter__(self) -> GpuPool:
        with ExitStack() as stack:
            cupy, torch = sys.modules.get("cupy"), sys.modules.get("torch")
            if cupy is not None:
                stack.enter_context(cupy.cuda.using_allocator(self.cupy.malloc))
            if torch is not None and torch.cuda.is_available():
                pool = self.torch
                stack.enter_context(torch.cuda.use_mem_pool(pool))
                stack.enter_context(self._without_expandable_segments(torch))
            self._entered.stacks = [*getattr(self._entered, "stacks", []), stack.pop_all()]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered.stacks.pop().close()

    @contextmanager
    def _without_expandable_segments(self, torch: Any) -> Iterator[None]:
        """A pool of torch's takes memory as the setting says at that moment."""
        with self._lock:
            if self._inside == 0:
                known = torch.cuda.memory._snapshot()["allocator_settings"]
                self._kept = _enabled(known) if known.get(_SETTING) else ""
                if self._kept:
                    _set(torch, self._kept.replace(f"{_SETTING}:True", f"{_SETTING}:False"))
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0 and self._kept:
                    _set(torch, self._kept)


def _enabled(known: dict[str, Any]) -> str:
    """The text of settings by which segments are expandable, and all else is as it is."""
    text = next((known[name] for name in known if name.endswith("ALLOC_CONF")), "")
    others = [
        part
        for part in re.split(r",(?![^\[]*\])", text)
        if part.strip() and not part.strip().startswith(_SETTING)
    ]
    return ",".join([*others, f"{_SETTING}:True"])


def _set(torch: Any, text: str) -> None:
    newer = getattr(torch._C, "_accelerator_setAllocatorSettings", None)
    (newer or torch.cuda.memory._set_allocator_settings)(text)


_pool = GpuPool()


def gpu_pool() -> GpuPool:
    """Memory of GPUs that other processes can open, for programs whose libraries give them another.

    Messages of arrays in it go straight from GPU to GPU, also where CuPy allocates by
    ``cudaMallocAsync`` (``cupy.cuda.MemoryAsyncPool``) or torch has expandable segments. Where
    neither is so, as neither is by default, it changes nothing but the pool.

    Within ``with gpu_pool():`` CuPy and torch, as far as the program has imported them, allocate
    from it: on any GPU by CuPy, on the current one by torch; in this thread, as by their own
    ``cupy.cuda.using_allocator`` and ``torch.cuda.use_mem_pool``. What was made inside may be used
    and freed anywhere; its memory comes again for what is made inside later. Meanwhile torch's
    other threads get segments that are not expandable.

    Returns:
        The process's own, the same each time. Its ``cupy`` is a ``cupy.cuda.MemoryPool``, its
        ``torch`` a ``torch.cuda.MemPool``.

    Example::

        with mooncake_mpi.gpu_pool():
            buffer = cupy.empty(1 << 28, "u1")
    """
    return _pool
