"""What tests ask of streams, for which they never wait for ever."""

from __future__ import annotations

import ctypes
import time

import fake_cuda


def synchronize(stream, seconds=10):
    """Wait for a stream, which is not to take for ever."""
    until = time.monotonic() + seconds
    while not stream.query():
        assert time.monotonic() < until, "the stream hangs"
        time.sleep(0.0005)


def pinned_word():
    """A word that streams can write and wait for."""
    address = ctypes.c_void_p()
    with fake_cuda.current(0):
        fake_cuda.call("cuMemHostAlloc", ctypes.byref(address), 64, 1)
    return address.value


def write_word(stream, address, value):
    """Have a stream write a word."""
    fake_cuda.call("cuStreamWriteValue32", stream.handle, address, value, 0)
