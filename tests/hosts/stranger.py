"""One who is no part of a job calls its ranks: python stranger.py KIND ADDRESS FIRST_PORT LAST_PORT SECONDS.

It prints one object of JSON: how many connections it made, and on how many it was told more than the
first words of a handshake. Of the protocol it knows what anybody can read in docs/wire.md.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import sys
import time

MAGIC = 0x53484D4D
CALL = 1
CALL_BYTES, ANSWER_BYTES = 80, 80
HEAD = struct.Struct("<IHBB")


def open_ports(address, first, last):
    """Where somebody listens; a call whose first packet is lost is answered after a second."""
    found = []
    for port in range(first, last + 1):
        try:
            socket.create_connection((address, port), 10).close()
        except ConnectionRefusedError:
            continue
        found.append(port)
    return found


def head(version):
    return HEAD.pack(MAGIC, version, CALL, 0)


def garbage(_version):
    return random.randbytes(random.randrange(1, 4000))


def other_version(version):
    return head(version + 1) + random.randbytes(CALL_BYTES - HEAD.size)


def other_secret(version):
    """A call as of a process of another job, and a proof that is none."""
    return head(version) + random.randbytes(CALL_BYTES - HEAD.size) + random.randbytes(40)


def half(version):
    """The beginning of a call, and no end."""
    return head(version) + random.randbytes(random.randrange(CALL_BYTES - HEAD.size))


def zeros(_version):
    return bytes(1 << 20)


KINDS = {
    "garbage": garbage,
    "other_version": other_version,
    "other_secret": other_secret,
    "half": half,
    "zeros": zeros,
}


def talk(address, port, text, wait):
    """Say it; what was answered before the other side hung up, or until ``wait`` is over."""
    heard = b""
    with socket.socket() as connection:
        connection.settimeout(wait)
        try:
            connection.connect((address, port))
            connection.sendall(text)
            while more := connection.recv(4096):
                heard += more
        except OSError:
            pass
    return heard


def replay(address, ports, _seconds):
    """What was recorded of a real connection, once more: from the standard input, in hexadecimal."""
    recorded = bytes.fromhex(sys.stdin.read())
    heard = [talk(address, port, recorded, 3) for port in ports for _ in range(5)]
    return {"made": len(heard), "told": sum(len(text) > ANSWER_BYTES for text in heard)}


def crowd(address, ports, seconds):
    """As many connections as there may be, which say nothing."""
    held, made, deadline = [], 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        connection = socket.socket()
        connection.settimeout(0)
        connection.connect_ex((address, random.choice(ports)))
        held.append(connection)
        made += 1
        if len(held) > 400:
            held.pop(0).close()
        time.sleep(0.002)
    for connection in held:
        connection.close()
    return {"made": made, "told": 0}


def flood(address, ports, seconds, rate=1000):
    """So many connections a second, each with some garbage; no answer is waited for."""
    made, began = 0, time.monotonic()
    lost = struct.pack("ii", 1, 0)
    while (now := time.monotonic() - began) < seconds:
        while made < now * rate:
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lost)
                connection.settimeout(0.2)
                try:
                    connection.connect((address, ports[made % len(ports)]))
                    connection.send(b"GET / HTTP/1.0\r\n\r\n")
                except OSError:
                    pass
            made += 1
        time.sleep(0.002)
    return {"made": made, "told": 0, "rate": made / (time.monotonic() - began)}


def elsewhere(address, _ports, seconds):
    """The same where nobody listens: what the strangers themselves cost."""
    return flood(address, [4999], seconds)


def insist(kind, address, ports, seconds, version):
    """One kind of words, again and again."""
    made, told, deadline = 0, 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        heard = talk(address, random.choice(ports), KINDS[kind](version), 0.3)
        made += 1
        told += len(heard) > ANSWER_BYTES
    return {"made": made, "told": told}


def main(kind, address, first, last, seconds):
    ports = open_ports(address, int(first), int(last))
    assert ports, "nobody listens"
    version = int(os.environ.get("WIRE_VERSION", "1"))
    if kind in KINDS:
        result = insist(kind, address, ports, float(seconds), version)
    else:
        result = {"replay": replay, "crowd": crowd, "flood": flood, "elsewhere": elsewhere}[kind](
            address, ports, float(seconds)
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
