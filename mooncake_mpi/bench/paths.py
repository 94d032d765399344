"""Which ways the bytes of a row took, of ours.

Called in the benchmark's one thread, without a lock.
"""

from __future__ import annotations

from collections import Counter

from mooncake_mpi.traffic import transfers


def counted() -> Counter[str]:
    """Bytes by way, to all processes and from them, until now."""
    counts: Counter[str] = Counter()
    for peer in transfers():
        for paths in (peer.sent, peer.received):
            for path, traffic in paths.items():
                counts[path] += traffic.nbytes
    return counts


def between(before: Counter[str], after: Counter[str]) -> str:
    """The ways that were taken meanwhile, the one of most bytes first.

    ``"eager"`` where none was counted: small messages of the host travel with their envelope.
    """
    taken = after - before
    if not taken:
        return "eager"
    if len(taken) == 1:
        return next(iter(taken))
    total = taken.total()
    return ", ".join(f"{path} {_share(nbytes / total)}" for path, nbytes in taken.most_common())


def _share(part: float) -> str:
    return "<1 %" if part < 0.005 else f"{part:.0%}".replace("%", " %")
