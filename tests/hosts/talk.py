"""Sockets between hosts, for tests that look at the bed itself: python talk.py ROLE ARGUMENTS..."""

from __future__ import annotations

import socket
import sys
import time

PORT = 4000


def serve():
    """Echo what comes by TCP, one connection after the other, and by UDP."""
    with socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        print("listening", flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                while text := connection.recv(1 << 16):
                    connection.sendall(text)


def ask(address, timeout="5"):
    """Whether the echo at an address answers in time; how long each of ten took."""
    try:
        with socket.create_connection((address, PORT), float(timeout)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(float(timeout))
            took = []
            for _ in range(10):
                began = time.monotonic()
                connection.sendall(b"?")
                assert connection.recv(1) == b"?"
                took.append(time.monotonic() - began)
    except OSError as error:
        print("no:", type(error).__name__)
    else:
        print("yes", min(took))


def flood(address, number):
    """Send so many datagrams, not too fast."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for sent in range(int(number)):
            sender.sendto(bytes(1000), (address, PORT))
            if sent % 50 == 0:
                time.sleep(0.01)


def push(address, size):
    """Send so many bytes and have the last of them echoed; the seconds."""
    total = int(size)
    with socket.create_connection((address, PORT), 30) as connection:
        began = time.monotonic()
        left = total
        while left:
            piece = bytes(min(left, 1 << 16))
            connection.sendall(piece)
            missing = len(piece)
            while missing:
                missing -= len(connection.recv(missing))
            left -= len(piece)
        print(time.monotonic() - began)


def hold(address):
    """Keep a connection until it breaks; how it did."""
    with socket.create_connection((address, PORT), 5) as connection:
        connection.settimeout(20)
        print("connected", flush=True)
        try:
            print("end" if not connection.recv(1) else "byte", flush=True)
        except OSError as error:
            print(type(error).__name__, flush=True)


if __name__ == "__main__":
    {"serve": serve, "ask": ask, "flood": flood, "push": push, "hold": hold}[sys.argv[1]](
        *sys.argv[2:]
    )
