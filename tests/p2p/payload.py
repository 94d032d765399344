"""Message contents that reveal shifted, swapped, missing and stale bytes."""

from __future__ import annotations

import numpy as np

_PERIOD = 251  # prime: no block of a power of two repeats in step
_TILE = (np.arange(_PERIOD * 4096, dtype=np.int64) % _PERIOD).astype(np.uint8)


def pattern(size, seed=0):
    """``size`` bytes that depend on their position and on the seed."""
    copies = -(-size // _TILE.size)
    tile = np.roll(_TILE, seed) + np.uint8(seed % 5)
    return np.tile(tile, copies)[:size].copy() if size else np.empty(0, np.uint8)


def is_pattern(array, seed=0):
    """Whether all bytes of ``array`` are the pattern's."""
    return bool(np.array_equal(array, pattern(array.size, seed)))
