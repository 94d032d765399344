"""Memory of GPUs and of the host, told apart by a word."""

from __future__ import annotations

import numpy as np
from payload import pattern

#: Where the sender's and the receiver's memory is.
PAIRS = [("device", "device"), ("device", "host"), ("host", "device")]


def fresh(made, size, where, value=255):
    """Memory of that size with one value everywhere; ``pool``: on a GPU, no other process opens it."""
    if where == "host":
        return np.full(size, value, np.uint8)
    return made(size, pool=where == "pool").set(value)


def filled(made, size, where, seed):
    """Memory with the pattern of a seed in it."""
    array = fresh(made, size, where)
    put(array, pattern(size, seed))
    return array


def put(array, values):
    if isinstance(array, np.ndarray):
        array[...] = values
    else:
        array.set(values)


def content(array):
    """What is in it, as an array of the host."""
    return array if isinstance(array, np.ndarray) else array.get()


def moved(before, after):
    """By path: the messages and bytes that came in between."""
    counts = {}
    for path, traffic in after.items():
        messages, nbytes = traffic.messages, traffic.nbytes
        if path in before:
            messages, nbytes = messages - before[path].messages, nbytes - before[path].nbytes
        if messages:
            counts[path] = (messages, nbytes)
    return counts
