"""Torch's reductions, as the collectives take them.

Called in the thread that runs the operation, no lock of its own.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.distributed import ReduceOp

if TYPE_CHECKING:
    from collections.abc import Callable


class Reduction(NamedTuple):
    """How parts are combined, and what is done before and after; a number for each kind."""

    number: int
    combine: Callable[[torch.Tensor, torch.Tensor], object]
    prepare: Callable[[torch.Tensor], object] | None = None
    finish: Callable[[torch.Tensor], object] | None = None


def _or(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.bitwise_or(a, b, out=a)


def _and(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.bitwise_and(a, b, out=a)


_KINDS = ReduceOp.RedOpType
_OPERATIONS: dict[Any, Callable[[torch.Tensor, torch.Tensor], object]] = {
    _KINDS.SUM: lambda a, b: torch.add(a, b, out=a),
    _KINDS.AVG: lambda a, b: torch.add(a, b, out=a),
    _KINDS.PREMUL_SUM: lambda a, b: torch.add(a, b, out=a),
    _KINDS.PRODUCT: lambda a, b: torch.mul(a, b, out=a),
    _KINDS.MIN: lambda a, b: torch.minimum(a, b, out=a),
    _KINDS.MAX: lambda a, b: torch.maximum(a, b, out=a),
    _KINDS.BAND: _and,
    _KINDS.BOR: _or,
    _KINDS.BXOR: lambda a, b: torch.bitwise_xor(a, b, out=a),
}
_NUMBERS = {kind: number for number, kind in enumerate(_OPERATIONS)}
_BITWISE = (_KINDS.BAND, _KINDS.BOR, _KINDS.BXOR)
_OF_BOOL = {_KINDS.SUM: _or, _KINDS.MAX: _or, _KINDS.PRODUCT: _and, _KINDS.MIN: _and}
# Of other types torch lacks some operations, on some devices.
_PLAIN = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex128),
    *(torch.complex64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


def reduction_of(given: Any, dtype: torch.dtype, device: str, size: int) -> Reduction:
    """The reduction of ``size`` ranks that a ReduceOp means.

    Args:
        given: the ReduceOp.
        dtype: of the elements.
        device: the kind of the tensors' device.
        size: the number of ranks.

    Raises:
        ValueError: there is none for this type of elements.
    """
    kind = kind_of(given)
    refused = (
        kind not in _OPERATIONS
        or (kind in _BITWISE and (dtype.is_floating_point or dtype.is_complex))
        or (kind in {_KINDS.MIN, _KINDS.MAX} and dtype.is_complex)
        or (kind in {_KINDS.AVG, _KINDS.PREMUL_SUM} and dtype is torch.bool)
        or (dtype not in _PLAIN and not _is_known(kind, dtype, device))
    )
    if refused:
        raise ValueError(f"mooncake_mpi: no reduction {_name(kind)} of {dtype}")
    number, combine = _NUMBERS[kind], _OPERATIONS[kind]
    if dtype is torch.bool and kind in _OF_BOOL:
        return Reduction(number, _OF_BOOL[kind])
    if kind == _KINDS.PREMUL_SUM:
        factor = _factor(given)
        return Reduction(number, combine, prepare=lambda part: part.mul_(factor))
    if kind == _KINDS.AVG:
        return Reduction(number, combine, finish=_divide_by(size, dtype))
    return Reduction(number, combine)


@cache
def _is_known(kind: Any, dtype: torch.dtype, device: str) -> bool:
    try:
        one = torch.zeros(1, dtype=torch.uint8, device=device).to(dtype)
        _OPERATIONS[kind](one, one.clone())
    except RuntimeError:  # and what is not implemented
        return False
    return True


def kind_of(given: Any) -> Any:
    """The kind of a ReduceOp, or of one of its constants."""
    return given if isinstance(given, _KINDS) else given.op


def _name(kind: Any) -> str:
    return str(getattr(kind, "name", kind))


def _divide_by(size: int, dtype: torch.dtype) -> Callable[[torch.Tensor], object]:
    if dtype.is_floating_point or dtype.is_complex:
        return lambda part: part.div_(size)
    return lambda part: part.div_(size, rounding_mode="trunc")


def _factor(given: Any) -> Any:
    # Pickling is the one public way to the factor.
    state = given.__getstate__()
    if not isinstance(state, tuple) or len(state) != 2:
        raise ValueError("mooncake_mpi: PREMUL_SUM without its factor")
    return state[1]
