"""torch's own tensors as the engine reads them. Neither torch nor mpi4py is imported here.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

import sys
from typing import Any

from mooncake_mpi import _native

_taught: set[type] = set()


def stream_of(tensor: Any) -> int | None:
    """The stream that torch works in now on a tensor's GPU; ``None`` where it is not a CUDA one."""
    torch = sys.modules["torch"]
    if tensor.device.type != "cuda" or torch.version.hip is not None:
        return None
    return int(torch.cuda.current_stream(tensor.device).cuda_stream)


def teach(kind: Any) -> None:
    """Let the engine read torch's own tensors by itself; not a subclass, which may differ."""
    if kind.__module__ != "torch" or kind.__name__ != "Tensor" or kind in _taught:
        return
    _taught.add(kind)
    table = getattr(kind, "__dlpack_c_exchange_api__", None)
    if table is not None:
        # The native check asks nothing else of a tensor than these, the table itself the rest.
        obstacles = (kind.is_conj, kind.is_neg, kind.requires_grad.__get__)
        _native.learn_tensor_type(kind, table, obstacles)
