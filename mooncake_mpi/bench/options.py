"""Parsing and checking of benchmark options: one short message says which option is wrong.

Called in the benchmark's one thread, without a lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

LARGEST_SIZE_BYTES = 4 * GIB
DEFAULT_SIZES = tuple(4**power for power in range(14))  # 1 B ... 64 MiB

OVERLAP_SIZES = (MIB, 16 * MIB)

AGAINST = ("mpi", "gloo", "nccl", "cupy-nccl", "copy", "none")
COMPUTE = ("numpy", "python")
MEMORIES = ("numpy", "alloc", "torch", "cupy")

_SUFFIX_BYTES = {"": 1, "B": 1, "K": KIB, "KIB": KIB, "M": MIB, "MIB": MIB, "G": GIB, "GIB": GIB}


class OptionError(ValueError):
    """An option that makes no sense; the text names the option and what it takes."""


@dataclass(frozen=True)
class BenchOptions:
    """What one benchmark run measures.

    ``sizes`` are message lengths in bytes; ``iterations`` and ``warmup`` are counts per sample set,
    ``None`` for a count scaled by the size; ``window`` is the number of outstanding messages;
    ``messages`` is the number of hops of a ring; ``outstanding`` is the number of other requests
    while matching is timed; ``compute`` is what runs beside a transfer; ``against`` are the peers
    beside ours; ``memory`` is what buffers are made of, for torch on ``device``; ``path`` is
    whether the table says which ways the bytes took.
    """

    sizes: tuple[int, ...] = DEFAULT_SIZES
    iterations: int | None = None
    warmup: int | None = None
    repeats: int = 5
    window: int = 64
    messages: int = 10_000
    outstanding: tuple[int, ...] = (1, 100, 10_000)
    compute: tuple[str, ...] = ("numpy", "python")
    against: tuple[str, ...] = ("mpi",)
    memory: str = "numpy"
    device: str = "cpu"
    pin: bool | None = None
    progress: bool | None = None
    path: bool = False
    json_path: str | None = None
    plot_path: str | None = None


def parse_size(text: str) -> int:
    """Length in bytes of ``"8"``, ``"64K"``, ``"1MiB"`` (powers of 1024).

    Raises:
        ValueError: the text is not a size, or is past the largest supported one.
    """
    stripped = text.strip().upper()
    digits = stripped.rstrip("KMGIB")
    suffix = stripped[len(digits) :]
    if not digits.isdecimal() or suffix not in _SUFFIX_BYTES:
        raise ValueError(f"{text.strip()!r} is not a size such as 8, 64K or 1M")
    size = int(digits) * _SUFFIX_BYTES[suffix]
    if size > LARGEST_SIZE_BYTES:
        raise ValueError(f"{text.strip()!r} is larger than 4G")
    return size


def parse_sizes(text: str) -> tuple[int, ...]:
    """Sizes in bytes of a list ``"1,8,64K"`` or a range ``"1:64M"`` in powers of four.

    The range includes its last size.

    Raises:
        ValueError: an item is not a size, or the range is empty.
    """
    if ":" not in text:
        return tuple(parse_size(item) for item in text.split(","))
    first_text, _, last_text = text.partition(":")
    size, last = parse_size(first_text), parse_size(last_text)
    if size < 1 or last < size:
        raise ValueError(f"{text!r} is not a range such as 1:64M")
    sizes = []
    while size < last:
        sizes.append(size)
        size *= 4
    return (*sizes, last)


def parse_counts(text: str) -> tuple[int, ...]:
    """Non-negative whole numbers of ``"1,100,10000"``.

    Raises:
        ValueError: an item is not a non-negative whole number.
    """
    items = [item.strip() for item in text.split(",")]
    for item in items:
        if not item.isdecimal():
            raise ValueError(f"{item!r} is not a non-negative whole number")
    return tuple(int(item) for item in items)


def parse_names(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Different names of ``"mpi,gloo"``, in that order.

    Raises:
        ValueError: a name is not known, or comes twice.
    """
    names = tuple(item.strip() for item in text.split(","))
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is none of {', '.join(known)}")
        if names.count(name) > 1:
            raise ValueError(f"{name!r} comes twice")
    return names


def parse_against(text: str) -> tuple[str, ...]:
    """The peers of ``"mpi,gloo"``; ``"none"`` for no peer.

    Raises:
        ValueError: a name is not known or comes twice, or ``none`` is not alone.
    """
    names = parse_names(text, AGAINST)
    if "none" in names and len(names) > 1:
        raise ValueError(f"none cannot be combined, as in {text!r}")
    return () if names == ("none",) else names


def parse_compute(text: str) -> tuple[str, ...]:
    """Computations of ``"numpy,python"``.

    Raises:
        ValueError: a name is not known or comes twice.
    """
    return parse_names(text, COMPUTE)


def parse_device(text: str) -> str:
    """``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        ValueError: anything else.
    """
    kind, colon, index = text.partition(":")
    if kind not in {"cpu", "cuda"} or (colon and not (kind == "cuda" and index.isdecimal())):
        raise ValueError(f"{text!r} is not a device such as cpu, cuda or cuda:1")
    return text


def parse_positive(text: str) -> int:
    """A whole number of at least one.

    Raises:
        ValueError: anything else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r} is not a positive whole number")
    return int(text)


def parse_non_negative(text: str) -> int:
    """A whole number of at least zero.

    Raises:
        ValueError: anything else.
    """
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a non-negative whole number")
    return int(text)


def size_name(size_bytes: int) -> str:
    """``"64 KiB"`` for 65536: the largest unit that divides the size."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit} {name}"
    return f"{size_bytes} B"
