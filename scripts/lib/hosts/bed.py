"""Several hosts on one machine: network, process, mount and name namespaces, joined by a switch.

A host is its first process (inside.py), which is a child of this one and ends with it, even if this
one is killed: the kernel then ends what runs in the host, and removes its interfaces and mounts.
What stays after a kill is a folder of sockets; the next bed removes it.

Needs CAP_SYS_ADMIN and CAP_NET_ADMIN, iproute2 and util-linux; nftables for cuts and losses.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faults
import remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

HERE = Path(__file__).resolve().parent
INTERFACE = faults.INTERFACE
PREFIX = "mooncake_mpi-hosts-"
SWITCH = "switch"
PR_SET_PDEATHSIG = 1
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
YOUNG_SECONDS = 60.0  # a folder of this age may belong to a bed that has not locked it yet
END_SECONDS = 10.0


class BedError(Exception):
    """Why there is no bed, in one line."""


@dataclasses.dataclass(frozen=True)
class Network:
    """What a packet meets on its way from one host to another.

    Attributes:
        delay_us: how long it takes, in microseconds.
        loss: the part of the packets that is lost, 0 to 1.
        rate: what a host sends in a second at most, as tc writes it; empty: no limit.
        mtu: the longest packet.
        congestion: TCP's congestion control, such as cubic; empty: the kernel's choice.
        loopback_names: whether a host's own name is 127.0.1.1 to itself, as on Debian.
    """

    delay_us: int = 0
    loss: float = 0.0
    rate: str = ""
    mtu: int = 1500
    congestion: str = ""
    loopback_names: bool = False


def missing_capabilities() -> list[str]:
    """Those of CAPABILITIES that this process does not have."""
    found = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    held = int(found.group(1), 16) if found else 0
    return [name for name, bit in CAPABILITIES.items() if not held >> bit & 1]


def why_forbidden() -> str:
    """Why this process may make no bed, in one line; empty if it may."""
    lacking = missing_capabilities()
    if not lacking:
        return ""
    return f"several hosts on one machine need {' and '.join(lacking)}: run it as root"


def what_is_missing() -> str:
    """Why no bed can be made here, in one line; empty if one can."""
    if why_forbidden():
        return why_forbidden()
    search = tool_path()
    absent = [
        name for name in ("ip", "tc", "unshare", "mount") if not shutil.which(name, path=search)
    ]
    if absent:
        return f"not here: {', '.join(absent)}; apt-get install iproute2 util-linux mount"
    return ""


def tool_path() -> str:
    """PATH, with the folders where a user's PATH may lack ip and nft."""
    return os.pathsep.join(
        [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    )


def end_with_parent() -> None:
    """Called in a child before it runs its program."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def remove_left_folders() -> None:
    """Remove the folders of beds that were killed: nobody holds their locks."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime < YOUNG_SECONDS:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


class Host:
    """One of them: its names, addresses and first process."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.name = f"host{index}"
        self.ipv4 = f"10.77.0.{index + 1}"
        self.ipv6 = f"fd77::{index + 1:x}"
        self.process: subprocess.Popen[bytes] | None = None


class Bed:
    """Hosts that reach each other; leaving the context ends all that runs in them."""

    def __init__(
        self, count: int, network: Network | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        """``variables`` are set for all that runs in the hosts, beside this process's own."""
        if not 1 <= count <= 200:
            raise BedError("there may be 1 to 200 hosts")
        self.network = network or Network()
        self.hosts = [Host(index) for index in range(count)]
        self.folder = Path()
        self._variables = dict(variables or {})
        self._children: list[subprocess.Popen[bytes]] = []
        self._cable: subprocess.Popen[bytes] | None = None
        self._lock = -1
        self._started: list[remote.Process] = []

    def __enter__(self) -> Bed:
        missing = what_is_missing()
        if missing:
            raise BedError(missing)
        remove_left_folders()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._start_hosts()
            self._connect_hosts()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything and wait until it has ended."""
        self._hang_up()
        for name in (*self.names, SWITCH):
            remote.end(self.folder, name)
        for child in self._children:
            # unshare ends after the host's first process, and that after all others of the host
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(END_SECONDS if child is not self._cable else 0)
            child.kill()
            child.wait()
            for pipe in (child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
        self._children = []
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    # ---- making it

    def _start_child(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PATH": tool_path()},
            preexec_fn=end_with_parent,
            start_new_session=True,
        )
        self._children.append(child)
        return child

    @staticmethod
    def _await_ready(child: subprocess.Popen[bytes], what: str) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        if child.stdout.readline() != b"ready\n":
            child.kill()
            reason = child.stderr.read().decode(errors="replace").strip().splitlines()
            raise BedError(f"{what} did not start: {reason[-1] if reason else 'no reason given'}")
        child.stdout.close()
        child.stderr.close()

    def _start_hosts(self) -> None:
        for host in self.hosts:
            host.process = self._start_first_process(host.name, self._hosts_file(host))
        switch = self._start_first_process(SWITCH, self._hosts_file(None))
        for host in self.hosts:
            assert host.process is not None
            self._await_ready(host.process, host.name)
        self._await_ready(switch, "the switch")
        self._switch = switch

    def _start_first_process(self, name: str, hosts_file: str) -> subprocess.Popen[bytes]:
        settings = {
            "name": name,
            "hosts_file": hosts_file,
            "socket": str(self.folder / f"{name}.sock"),
            "variables": {remote.FOLDER: str(self.folder), **self._variables},
        }
        namespaces = ("--net", "--uts", "--ipc", "--mount", "--pid", "--mount-proc")
        program = (sys.executable, "-I", str(HERE / "inside.py"), json.dumps(settings))
        return self._start_child(
            ["unshare", *namespaces, "--fork", "--kill-child=SIGKILL", "--", *program]
        )

    def _hosts_file(self, reader: Host | None) -> str:
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        for host in self.hosts:
            if host is reader and self.network.loopback_names:
                lines.append(f"127.0.1.1 {host.name}")
            else:
                lines += [f"{host.ipv4} {host.name}", f"{host.ipv6} {host.name}"]
        return "\n".join([*lines, ""])

    def _connect_hosts(self) -> None:
        if self.network.delay_us and not self._has_netem():
            self._start_cable()
        else:
            self._make_bridge()
        for host in self.hosts:
            self._configure(host)

    def _has_netem(self) -> bool:
        tried = self.run(SWITCH, ["tc", "qdisc", "add", "dev", "lo", "root", "netem"], check=False)
        return tried.returncode == 0

    def _start_cable(self) -> None:
        pids = [str(host.process.pid) for host in self.hosts if host.process is not None]
        words = [str(self.network.delay_us), INTERFACE, *pids]
        self._cable = self._start_child([sys.executable, "-I", str(HERE / "cable.py"), *words])
        self._await_ready(self._cable, "the slow cable")

    def _make_bridge(self) -> None:
        self._ip(
            SWITCH,
            ["link add bridge type bridge forward_delay 0 stp_state 0", "link set bridge up"],
        )
        pairs = []
        for host in self.hosts:
            assert host.process is not None
            pairs.append(
                f"link add {INTERFACE} netns {host.process.pid} mtu {self.network.mtu}"
                f" type veth peer name {host.name} netns {self._switch.pid} mtu {self.network.mtu}"
            )
        made = subprocess.run(
            ["ip", "-batch", "-"],
            input="\n".join(pairs),
            env={**os.environ, "PATH": tool_path()},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise BedError(f"no veth pair: {made.stderr.strip().splitlines()[0]}")
        self._ip(
            SWITCH,
            [f"link set {host.name} master bridge up" for host in self.hosts],
        )
        if self.network.delay_us:
            delay = f"netem limit 1000000 delay {self.network.delay_us}us"
            for host in self.hosts:
                self.run(SWITCH, ["tc", *f"qdisc add dev {host.name} root {delay}".split()])

    def _configure(self, host: Host) -> None:
        # addresses stay when the link goes down, and are there at once when it comes up
        for key, value in (("accept_dad", "0"), ("keep_addr_on_down", "1")):
            setting = f"/proc/sys/net/ipv6/conf/{INTERFACE}/{key}"
            self.run(host.name, ["/bin/sh", "-c", f"echo {value} >{setting} 2>/dev/null || true"])
        commands = [
            f"link set {INTERFACE} address {faults.ethernet_address(host.index)}",
            f"link set {INTERFACE} mtu {self.network.mtu}",
            f"address add {host.ipv4}/24 dev {INTERFACE}",
            f"address add {host.ipv6}/64 dev {INTERFACE} nodad",
        ]
        if self.network.loss:
            # what is lost is a packet, not the 64 KiB that a veth pair hands over at once
            commands.append(f"link set {INTERFACE} gso_max_segs 1")
        self._ip(host.name, [*commands, f"link set {INTERFACE} up"])
        if self.network.congestion:
            # by the routes: of a namespace's own setting the kernel allows only some
            chosen = f"dev {INTERFACE} proto kernel congctl {self.network.congestion}"
            changed = f"route change 10.77.0.0/24 scope link src {host.ipv4} {chosen}"
            self._ip(host.name, [changed, f"route change fd77::/64 metric 256 {chosen}"])
        if self.network.rate:
            limit = f"tbf rate {self.network.rate} burst 256kb latency 50ms"
            self.run(host.name, ["tc", *f"qdisc add dev {INTERFACE} root {limit}".split()])
        if self.network.loss:
            faults.lose(self.folder, host.name, self.network.loss)

    def _ip(self, host: str, commands: Iterable[str]) -> None:
        self.run(host, ["ip", "-batch", "-"], text="\n".join(commands))

    # ---- using it

    @property
    def names(self) -> list[str]:
        """Of the hosts."""
        return [host.name for host in self.hosts]

    def run(
        self, host: str, command: Sequence[str], **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a host to its end: see remote.run."""
        variables = {"PATH": tool_path(), **options.pop("variables", {})}
        return remote.run(self.folder, host, command, variables=variables, **options)

    def start(
        self,
        host: str,
        command: Sequence[str],
        descriptors: tuple[int, int, int] = (0, 1, 2),
        variables: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> remote.Process:
        """Start a program in a host, with these as its standard descriptors."""
        process = remote.Process(self.folder, host, command, descriptors, variables, cwd)
        self._started.append(process)
        return process

    def clear(self) -> None:
        """End everything that runs in the hosts; they stay."""
        self._hang_up()
        for host in self.hosts:
            remote.clear(self.folder, host.name)

    def _hang_up(self) -> None:
        for process in self._started:
            process.hang_up()
        self._started = []
