"""The first process of a host: makes its files and names, then starts and reaps what is asked for.

    unshare --net --uts --ipc --mount --pid --fork --kill-child ... inside.py SETTINGS

When it ends, the kernel ends everything else in the host, and with the last process go the host's
interfaces and mounts. See remote.py for what is asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

# A memory file system that the host has for itself: shared memory, and the files below.
MEMORY = Path("/dev/shm")


def call(*command: str) -> None:
    """Run a command of the setup.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")


def make_files(hosts_file: str) -> None:
    """Shared memory, temporary files, /etc/hosts and /sys that are this host's own."""
    call("mount", "-t", "tmpfs", "-o", "mode=1777", "shm", str(MEMORY))
    (MEMORY / "tmp").mkdir(mode=0o1777)
    names = MEMORY / "etc-hosts"
    names.write_text(hosts_file)
    call("mount", "--bind", str(names), "/etc/hosts")
    # /sys shows the interfaces of the namespace in which it was mounted
    fresh = MEMORY / "sys"
    fresh.mkdir()
    call("mount", "-t", "sysfs", "sysfs", str(fresh))
    if Path("/sys/fs/cgroup").is_dir():
        call("mount", "--rbind", "/sys/fs/cgroup", str(fresh / "fs/cgroup"))
    call("mount", "--rbind", str(fresh), "/sys")


def start(request: dict[str, Any], descriptors: list[int], base: dict[str, str]) -> int:
    """Start a program in a session of its own; its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        # none of them is one of the three by chance: this process has its own standard descriptors
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        os.chdir(request["cwd"])
        variables = {**base, **request["variables"]}
        command = request["command"]
        os.execvpe(command[0], command, variables)  # noqa: S606
    except BaseException as error:  # noqa: BLE001
        os.write(2, f"{request.get('command')}: {error}\n".encode())
    finally:
        os._exit(127)


class Connection:
    """One who asks: for a program, or to end all of them."""

    def __init__(self, accepted: socket.socket, base: dict[str, str]) -> None:
        self.socket = accepted
        self.pid: int | None = None
        self._base = base
        self._text = b""
        self._descriptors: list[int] = []

    def read(self) -> bool:
        """Do what has arrived; False at the end."""
        try:
            text, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 16, 3)
        except OSError:
            return False
        self._descriptors += descriptors
        self._text += text
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return bool(text)

    def _obey(self, request: dict[str, Any]) -> None:
        if "clear" in request:
            kill(-1, signal.SIGKILL)
            self.tell({"cleared": True})
        elif "end" in request:
            os._exit(0)
        elif "signal" in request:
            if self.pid is not None:
                kill(-self.pid, request["signal"])
        else:
            self.pid = start(request, self._descriptors, self._base)
            for descriptor in self._descriptors:
                os.close(descriptor)
            self._descriptors = []
            self.tell({"pid": self.pid})

    def tell(self, answer: dict[str, Any]) -> None:
        """Answer, if anybody listens."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(answer).encode() + b"\n")


def kill(target: int, number: int) -> None:
    """os.kill() of what may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(target, number)


def reap(connections: set[Connection]) -> None:
    """Collect all that has ended, and tell who asked for it."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for connection in connections:
            if connection.pid == pid:
                connection.pid = None
                connection.tell({"status": os.waitstatus_to_exitcode(status)})


def serve(listener: socket.socket, base: dict[str, str]) -> None:
    """For ever."""
    awake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # a terminal's Ctrl-C is for the bed, which ends this
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connections: set[Connection] = set()
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(awake, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection = Connection(listener.accept()[0], base)
                connections.add(connection)
                selector.register(connection.socket, selectors.EVENT_READ, connection)
            elif key.fd == awake:
                os.read(awake, 4096)
            elif not key.data.read():
                selector.unregister(key.fileobj)
                connections.discard(key.data)
                key.data.socket.close()
                if key.data.pid is not None:
                    kill(-key.data.pid, signal.SIGKILL)
        reap(connections)


def main() -> None:
    """Be the host's init."""
    settings = json.loads(sys.argv[1])
    name = settings["name"]
    socket.sethostname(name)
    call("ip", "link", "set", "lo", "up")
    make_files(settings["hosts_file"])
    base = {**os.environ, "HOSTNAME": name, "TMPDIR": str(MEMORY / "tmp"), **settings["variables"]}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(settings["socket"])
    listener.listen(128)
    os.write(1, b"ready\n")
    # whoever reads the output of a program must not wait for this process to close it, too
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    serve(listener, base)


if __name__ == "__main__":
    main()
