"""What a schedule needs of the world: a rank, messages in order, and memory.

A part is a flat array of any library: it has a length and slices, which share its memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Part: TypeAlias = Any
#: Combines two parts into the first.
Reduction: TypeAlias = "Callable[[Part, Part], object]"


class Port(Protocol):
    """The members of a group, for one operation, whose messages match no other operation's."""

    rank: int
    size: int

    def send(self, part: Part | None, peer: int) -> Any:
        """Start sending a part, or an empty message."""

    def recv(self, part: Part | None, peer: int) -> Any:
        """Start receiving exactly a part."""

    def wait(self, requests: Sequence[Any]) -> None:
        """Wait for what was started; raises if any of it failed."""

    def empty_like(self, part: Part) -> Part:
        """Memory of the same kind and length."""

    def copy(self, into: Part, source: Part) -> None:
        """Copy a part that is in this process."""

    def small_bytes(self, part: Part) -> int:
        """Up to so many a message of such memory costs its way rather than its bytes."""

    def reduces_quickly(self, part: Part) -> bool:
        """Whether a reduction takes little time beside a message of the same length."""

    def nbytes(self, part: Part) -> int:
        """The size of a part."""


def split(part: Part, pieces: int) -> list[Part]:
    """The part in so many pieces, whose lengths differ by one at most."""
    length = len(part)
    return [part[length * at // pieces : length * (at + 1) // pieces] for at in range(pieces)]


def chunks(port: Port, part: Part, nbytes: int) -> list[Part]:
    """The part in pieces of about so many bytes."""
    return split(part, max(1, -(-port.nbytes(part) // nbytes)))
