"""The binomial tree of a rooted operation."""

from __future__ import annotations


def parent_and_children(rank: int, size: int, root: int) -> tuple[int | None, list[int]]:
    """The neighbours of ``rank``, the child with the largest subtree first."""
    place = (rank - root) % size
    lowest = place & -place if place else 1 << (size - 1).bit_length()
    parent = (place - lowest + root) % size if place else None
    children = []
    step = lowest >> 1
    while step:
        if place + step < size:
            children.append((place + step + root) % size)
        step >>= 1
    return parent, children
