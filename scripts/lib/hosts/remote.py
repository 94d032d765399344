"""Runs programs in the hosts of a bed, from wherever its folder is seen: what ssh is elsewhere.

A request goes to the host's first process over a socket in the bed's folder: a line of JSON, with
the three standard descriptors beside it. The answers are lines: the process id, then how it ended.
Who hangs up before the end ends the program.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = "MOONCAKE_MPI_HOSTS"  # the variable that names the bed's folder to what runs in it
VARIABLES = "MOONCAKE_MPI_HOSTS_VARIABLES"  # what main() sets for its command, as JSON


def folder_of_bed() -> Path:
    """The folder of the bed that this process runs in.

    Raises:
        RuntimeError: it runs in none.
    """
    if FOLDER not in os.environ:
        raise RuntimeError(f"{FOLDER} is not set: this works inside of scripts/hosts run")
    return Path(os.environ[FOLDER])


def connect(folder: Path, host: str) -> socket.socket:
    """To the first process of a host."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(folder / f"{host}.sock"))
    except OSError:
        connection.close()
        raise
    return connection


class Process:
    """A program in a host; ``pid`` is the number that it has there."""

    def __init__(
        self,
        folder: Path,
        host: str,
        command: Sequence[str],
        descriptors: tuple[int, int, int] = (0, 1, 2),
        variables: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> None:
        self._socket = connect(folder, host)
        self._text = b""
        request = {
            "command": list(command),
            "variables": dict(variables or {}),
            "cwd": cwd or str(Path.cwd()),
        }
        line = json.dumps(request).encode() + b"\n"
        self.host = host
        self.command = list(command)
        self.returncode: int | None = None
        try:
            # the descriptors travel with the first byte
            socket.send_fds(self._socket, [line[:1]], list(descriptors))
            self._socket.sendall(line[1:])
            self.pid: int = self._answer()["pid"]
        except OSError:
            self.hang_up()
            raise

    def _answer(self) -> dict[str, Any]:
        while b"\n" not in self._text:
            more = self._socket.recv(4096)
            if not more:
                self.hang_up()
                raise ConnectionError(f"{self.host} is gone")
            self._text += more
        line, _, self._text = self._text.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, or minus the signal.

        Raises:
            subprocess.TimeoutExpired: it is still running.
        """
        if not self.ended(timeout):
            raise subprocess.TimeoutExpired(self.command, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def ended(self, timeout: float | None = 0) -> bool:
        """Whether it has ended, now or within some seconds; ``returncode`` tells how."""
        if self.returncode is None:
            if not self._text and not select.select([self._socket], [], [], timeout)[0]:
                return False
            self.returncode = self._answer()["status"]
            self.hang_up()
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the program and what it started in its session."""
        self._socket.sendall(json.dumps({"signal": number}).encode() + b"\n")

    def kill(self) -> None:
        """End it, and wait until it has ended."""
        if self.returncode is None:
            self.signal(signal.SIGKILL)
            self.wait(10)

    def hang_up(self) -> None:
        """What still runs is ended."""
        self._socket.close()


def clear(folder: Path, host: str) -> None:
    """End everything that runs in a host."""
    _tell(folder, host, b'{"clear": true}\n')


def end(folder: Path, host: str) -> None:
    """End a host, if it is there."""
    with contextlib.suppress(OSError):
        _tell(folder, host, b'{"end": true}\n')


def _tell(folder: Path, host: str, line: bytes) -> None:
    with connect(folder, host) as connection:
        connection.settimeout(10)
        connection.sendall(line)
        connection.recv(1)


def run(
    folder: Path,
    host: str,
    command: Sequence[str],
    *,
    text: str = "",
    check: bool = True,
    timeout: float = 60,
    variables: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program in a host to its end, ``text`` its input; standard error is in its output."""
    with (
        os.fdopen(os.memfd_create("input"), "r+") as given,
        os.fdopen(os.memfd_create("output"), "r+", errors="replace") as output,
    ):
        given.write(text)
        given.seek(0)
        descriptors = (given.fileno(), output.fileno(), output.fileno())
        process = Process(folder, host, command, descriptors, variables, cwd)
        try:
            status = process.wait(timeout)
        finally:
            process.hang_up()
        output.seek(0)
        finished = subprocess.CompletedProcess(list(command), status, output.read(), "")
    if check and status:
        raise RuntimeError(f"{host}: {' '.join(command)} ended with {status}: {finished.stdout}")
    return finished


def main(words: list[str]) -> int:
    """``[options] HOST COMMAND...`` as ssh takes it; the exit status is the command's."""
    while words and words[0].startswith("-"):
        del words[0]
    host, *command = words
    variables = json.loads(os.environ.get(VARIABLES, "{}"))
    shell = ["/bin/sh", "-c", " ".join(command)]
    process = Process(folder_of_bed(), host, shell, variables=variables)
    status = process.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
