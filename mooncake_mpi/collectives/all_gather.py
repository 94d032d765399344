"""All-gather: every rank sends its part to every other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mooncake_mpi.collectives.all_to_all import all_to_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.collectives.port import Part, Port


def all_gather(port: Port, parts: Sequence[Part], mine: Part) -> None:
    """``parts`` of every rank become what each has as ``mine``; their lengths may differ."""
    all_to_all(port, parts, [mine] * port.size)
