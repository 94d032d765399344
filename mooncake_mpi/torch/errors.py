"""Exceptions of torch's kind, which say what failed where.

Called in whichever thread notices, no lock of its own.
"""

from __future__ import annotations

from torch.distributed import DistBackendError


def failed(what: str, group: str, where: str, reason: object) -> Exception:
    """An operation of a group has failed."""
    error: Exception = DistBackendError(
        f"mooncake_mpi: {what} of group {group!r}, {where}: {reason}"
    )
    return error


def destroyed(what: str, group: str) -> Exception:
    """An operation was called after the group was destroyed."""
    error: Exception = DistBackendError(f"mooncake_mpi: {what}: group {group!r} was destroyed")
    return error
