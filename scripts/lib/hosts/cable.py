"""A switch with slow cables, for kernels without netem: frames come out a while after they went in.

    python cable.py MICROSECONDS INTERFACE PID...

It makes a tap device of this name in the network namespace of each process and carries frames
between them; the last byte of an Ethernet address is the number of the host. It says ``ready`` when
the devices are there. A processor copies every frame: this is for delays, not for speed.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
CLONE_NEWNET = 0x40000000
FRAME_BYTES = 1 << 16
TURN = 64  # frames of one device before the others have their turn


def open_tap(pid: int, interface: str) -> int:
    """A tap device in the network namespace of a process."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(namespace)
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", interface.encode(), IFF_TAP | IFF_NO_PI))
    return tap


def deliver(taps: list[int], source: int, frame: bytes) -> None:
    """To the device that the frame names, or to all others."""
    group, number = frame[0] & 1, frame[5]
    targets = [taps[number]] if not group and number < len(taps) else taps
    for tap in targets:
        if tap != source:
            with contextlib.suppress(OSError):  # its interface may be down
                os.write(tap, frame)


def carry(taps: list[int], delay: float) -> None:
    """For ever."""
    under_way: collections.deque[tuple[float, int, bytes]] = collections.deque()
    while True:
        rest = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        for tap in select.select(taps, [], [], rest)[0]:
            due = time.monotonic() + delay
            for _ in range(TURN):
                try:
                    frame = os.read(tap, FRAME_BYTES)
                except OSError:
                    break  # nothing more, or its interface is down
                under_way.append((due, tap, frame))
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, source, frame = under_way.popleft()
            deliver(taps, source, frame)


def main(words: list[str]) -> None:
    """See above."""
    microseconds, interface, *pids = words
    taps = [open_tap(int(pid), interface) for pid in pids]
    os.write(1, b"ready\n")
    carry(taps, int(microseconds) / 1e6)


if __name__ == "__main__":
    main(sys.argv[1:])
