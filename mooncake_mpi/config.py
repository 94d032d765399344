"""Settings of the engine, read once from the environment.

Called in the program's threads, no lock of its own. Every setting has one variable; a bad value
stops the program with one line that names it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from mooncake_mpi import _native
from mooncake_mpi.config_values import (
    parse_integer,
    parse_ports,
    parse_seconds,
    parse_size,
    parse_switch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_RANGES = {
    "verbs_gid_index": (0, 255),
    "verbs_traffic_class": (0, 255),
    "verbs_service_level": (0, 15),
    "verbs_timeout_s": (1, 86_400),
    "verbs_fragment_bytes": (4096, 1 << 30),
    "tcp_timeout_s": (1, 86_400),
    "tcp_streams": (0, 4),
    "tcp_stream_bytes": (16 << 10, 1 << 40),
}
#: By unit, what the engine can still count in nanoseconds: some hundred years.
_MOST = {"ms": 10**13, "us": 10**16}


class ConfigError(ValueError):
    """A setting that cannot be used; its text is one line that names the variable."""


@dataclass(frozen=True)
class Config:
    """The settings of one process; ``None`` leaves the choice to the engine.

    Attributes:
        eager_limit_bytes: the longest message that is sent before its receive is matched.
        cma: whether messages may be copied straight between two processes' memory
            (``process_vm_readv``); where the kernel refuses it, it is off by itself.
        spin_us: how long a waiting call polls before it sleeps, in microseconds.
        unexpected_limit_bytes: memory that may fill with messages that nobody has received yet.
        progress_thread: whether a thread makes progress while operations are outstanding and no
            call waits.
        mapping: whether messages from and to memory made for them are copied by loads and stores.
        memory_keep_bytes: freed memory of that kind that is kept for the next allocation.
        numpy: whether NumPy's arrays get such memory.
        numpy_threshold_bytes: the smallest array that does.
        torch_stream_waits: whether a stream waits for what torch receives into a GPU's tensor.
        torch_stream_sends: whether it waits until what torch sends of a GPU's tensor is taken.
        timeout_ms: how long a blocking call may wait before it raises, in milliseconds; zero means
            for ever.
        finalize_timeout_ms: how long the end of the program may wait for messages to be received,
            in milliseconds; zero means for as long as the receivers live.
        lanes: comma-separated names of the lanes that may be used; empty means all.
        tls: whether connections of the tcp lane are encrypted; those to processes that ask for it
            are in any case.
        cuda_aware: whether the MPI library's collectives take memory of GPUs; otherwise as it says.
        cuda_library: the file of the CUDA driver; ``libcuda.so.1`` otherwise.
        gpu_latency: whether a block of a kernel stays on a GPU while small messages follow each
            other closely, as within :class:`mooncake_mpi.gpu_latency`.
        verbs_devices: comma-separated RDMA devices, ``NAME`` or ``NAME:PORT``, that the verbs lane
            uses; otherwise every active port.
        verbs_gid_index: entry of the ports' GID tables; the lane chooses by itself otherwise.
        verbs_mtu_bytes: path MTU, 256 to 4096; both ports' active MTU otherwise.
        verbs_traffic_class: of RoCE packets (the DSCP in the upper six bits), 0 to 255.
        verbs_service_level: of InfiniBand packets or the RoCE priority, 0 to 15.
        verbs_timeout_s: seconds without any path to a peer until it is taken to be gone.
        verbs_fragment_bytes: the longest piece of a message that is read at once.
        tcp_interfaces: comma-separated interfaces (``eth0``) or subnets (``10.1.0.0/16``) on which
            other hosts may call this process; otherwise all that are up.
        tcp_ports: the ports it takes one of on each, ``FIRST-LAST``; any otherwise.
        tcp_timeout_s: seconds without any answer of a peer's host until it is taken to be gone.
        tcp_streams: connections to each peer for large messages, beside the one for all others.
        tcp_stream_bytes: the shortest message that goes over those.
        verbs_registered_bytes: memory made for messages that stays registered with each adapter, at
            most; otherwise a quarter of what may be locked, divided by the adapters.
    """

    eager_limit_bytes: int | None = None
    cma: bool | None = None
    spin_us: int | None = None
    unexpected_limit_bytes: int | None = None
    progress_thread: bool | None = None
    timeout_ms: int | None = None
    finalize_timeout_ms: int | None = None
    mapping: bool | None = None
    memory_keep_bytes: int | None = None
    numpy: bool | None = None
    numpy_threshold_bytes: int | None = None
    torch_stream_waits: bool | None = None
    torch_stream_sends: bool | None = None
    lanes: str = ""
    tls: bool | None = None
    cuda_aware: bool | None = None
    cuda_library: str | None = None
    gpu_latency: bool | None = None
    verbs_devices: str | None = None
    verbs_gid_index: int | None = None
    verbs_mtu_bytes: int | None = None
    verbs_traffic_class: int | None = None
    verbs_service_level: int | None = None
    verbs_timeout_s: int | None = None
    verbs_fragment_bytes: int | None = None
    verbs_registered_bytes: int | None = None
    tcp_interfaces: str | None = None
    tcp_ports: str | None = None
    tcp_timeout_s: int | None = None
    tcp_streams: int | None = None
    tcp_stream_bytes: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < 0:
                raise ConfigError(f"{field.name} must not be negative")
            most = _MOST.get(field.name.rpartition("_")[2], 2**62)
            if isinstance(value, int) and value > most:
                raise ConfigError(f"{field.name} must not be above {most}")
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ConfigError(f"{name} must be between {least} and {most}")
        if self.verbs_mtu_bytes not in {None, 256, 512, 1024, 2048, 4096}:
            raise ConfigError("verbs_mtu_bytes must be 256, 512, 1024, 2048 or 4096")
        for lane in self.lane_names():
            if lane not in _native.LANES:
                known = ", ".join(_native.LANES)
                raise ConfigError(f"no lane is called {lane!r}; there are {known}")

    def lane_names(self) -> tuple[str, ...]:
        """The lanes that may be used, empty for all."""
        return tuple(name.strip() for name in self.lanes.split(",") if name.strip())

    def as_dict(self) -> dict[str, Any]:
        """The settings that were chosen, by name, as the engine takes them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def load(environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings from ``environ`` (default: this process's environment).

    Raises:
        ConfigError: a value that is not understood; the text names its variable.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        text = environ.get(setting.variable, "").strip()
        if not text:
            continue
        try:
            values[name] = setting.parse(text)
            Config(**{name: values[name]})
        except ValueError as error:
            raise ConfigError(f"{setting.variable}={text!r}: {error}") from None
    return Config(**values)


class Setting(NamedTuple):
    """What ``info`` and the guide say of one setting."""

    #: Its environment variable.
    variable: str
    parse: Callable[[str], Any]
    #: What holds where it is not set, in words.
    default: str
    #: What it does, in words; Markdown.
    meaning: str


#: By the name of the field of :class:`Config`.
SETTINGS: dict[str, Setting] = {
    "eager_limit_bytes": Setting(
        "MOONCAKE_MPI_EAGER_LIMIT",
        parse_size,
        "8K on a node, 64K of ordinary memory where that is faster; 16K between nodes",
        "largest message, in bytes, that is sent without asking the receiver first",
    ),
    "cma": Setting(
        "MOONCAKE_MPI_CMA",
        parse_switch,
        "1, where the kernel allows it",
        "`0` forbids `process_vm_readv` and `process_vm_writev`; "
        "the copy goes through shared memory",
    ),
    "spin_us": Setting(
        "MOONCAKE_MPI_SPIN_US",
        parse_integer,
        "50",
        "microseconds that a waiting call polls before it sleeps",
    ),
    "unexpected_limit_bytes": Setting(
        "MOONCAKE_MPI_UNEXPECTED_LIMIT",
        parse_size,
        "1M",
        "bytes of unexpected messages that a process keeps for each sender",
    ),
    "progress_thread": Setting(
        "MOONCAKE_MPI_PROGRESS_THREAD",
        parse_switch,
        "1",
        "whether a thread makes progress while operations are outstanding and no call waits",
    ),
    "mapping": Setting(
        "MOONCAKE_MPI_MAPPING",
        parse_switch,
        "1",
        "`0`: memory made for messages is treated as any other memory",
    ),
    "memory_keep_bytes": Setting(
        "MOONCAKE_MPI_MEMORY_KEEP",
        parse_size,
        "256M",
        "bytes of freed memory of that kind that are kept for the next allocation",
    ),
    "numpy": Setting(
        "MOONCAKE_MPI_NUMPY", parse_switch, "0", "`1` makes it the memory of NumPy's arrays"
    ),
    "numpy_threshold_bytes": Setting(
        "MOONCAKE_MPI_NUMPY_THRESHOLD",
        parse_size,
        "64K",
        "smallest array, in bytes, that gets it",
    ),
    "torch_stream_waits": Setting(
        "MOONCAKE_MPI_TORCH_STREAM_WAITS",
        parse_switch,
        "1",
        "`0` makes the program, not its stream, wait for what torch receives into a GPU's tensor",
    ),
    "torch_stream_sends": Setting(
        "MOONCAKE_MPI_TORCH_STREAM_SENDS",
        parse_switch,
        "0",
        "`1` makes the stream, not the program, wait until what torch sends of a GPU is taken",
    ),
    "timeout_ms": Setting(
        "MOONCAKE_MPI_TIMEOUT_S",
        parse_seconds,
        "0: never",
        "seconds after which a blocking call raises",
    ),
    "finalize_timeout_ms": Setting(
        "MOONCAKE_MPI_FINALIZE_TIMEOUT_S",
        parse_seconds,
        "0: never while the receivers live",
        "seconds after which the end of a program gives up messages that nobody has received",
    ),
    "lanes": Setting(
        "MOONCAKE_MPI_LANES",
        str,
        "all",
        "the lanes that may be used, by name, with commas",
    ),
    "tls": Setting(
        "MOONCAKE_MPI_TLS",
        parse_switch,
        "0",
        "`1`: connections of the `tcp` lane are encrypted (TLS 1.3, by OpenSSL 3), also where only "
        "the other side asks for it; see {doc}`threats`",
    ),
    "cuda_aware": Setting(
        "MOONCAKE_MPI_CUDA_AWARE",
        parse_switch,
        "as the library says",
        "whether the MPI library's collectives take memory of GPUs",
    ),
    "cuda_library": Setting(
        "MOONCAKE_MPI_CUDA_LIBRARY",
        str,
        "libcuda.so.1",
        "the file of the CUDA driver; see {doc}`gpu`",
    ),
    "gpu_latency": Setting(
        "MOONCAKE_MPI_GPU_LATENCY",
        parse_switch,
        "0",
        "`1`: while small messages of GPUs follow each other closely a block of a kernel stays "
        "on the device, and they take a third less time; see {doc}`gpu`",
    ),
    "verbs_devices": Setting(
        "MOONCAKE_MPI_VERBS_DEVICES",
        str,
        "every active port",
        "the RDMA devices that are used, `NAME` or `NAME:PORT`, with commas",
    ),
    "verbs_gid_index": Setting(
        "MOONCAKE_MPI_VERBS_GID_INDEX",
        parse_integer,
        "RoCE v2 over IPv4 first",
        "the entry of the ports' GID tables",
    ),
    "verbs_mtu_bytes": Setting(
        "MOONCAKE_MPI_VERBS_MTU",
        parse_size,
        "the smaller of both ports' active MTU",
        "path MTU in bytes, 256 to 4096",
    ),
    "verbs_traffic_class": Setting(
        "MOONCAKE_MPI_VERBS_TRAFFIC_CLASS",
        parse_integer,
        "0",
        "of RoCE packets, 0 to 255 (the DSCP in the upper six bits)",
    ),
    "verbs_service_level": Setting(
        "MOONCAKE_MPI_VERBS_SERVICE_LEVEL",
        parse_integer,
        "0",
        "of InfiniBand packets, or the RoCE priority, 0 to 15",
    ),
    "verbs_timeout_s": Setting(
        "MOONCAKE_MPI_VERBS_TIMEOUT_S",
        parse_integer,
        "10",
        "seconds without any path to a peer until it is taken to be gone",
    ),
    "verbs_fragment_bytes": Setting(
        "MOONCAKE_MPI_VERBS_FRAGMENT",
        parse_size,
        "64K",
        "largest piece of a message, in bytes, that is read at once",
    ),
    "verbs_registered_bytes": Setting(
        "MOONCAKE_MPI_VERBS_REGISTERED",
        parse_size,
        "a quarter of what may be locked, divided by the adapters",
        "bytes of memory made for messages that stay registered with each adapter",
    ),
    "tcp_interfaces": Setting(
        "MOONCAKE_MPI_TCP_INTERFACES",
        str,
        "all that are up",
        "interfaces (`eth0`) or subnets (`10.1.0.0/16`), with commas, on which other hosts may "
        "call a process; see {doc}`hosts`",
    ),
    "tcp_ports": Setting(
        "MOONCAKE_MPI_TCP_PORTS",
        parse_ports,
        "any",
        "the ports, `FIRST-LAST`, that each process takes one of",
    ),
    "tcp_timeout_s": Setting(
        "MOONCAKE_MPI_TCP_TIMEOUT_S",
        parse_integer,
        "120",
        "seconds without an answer of a peer's host until it is taken to be gone",
    ),
    "tcp_streams": Setting(
        "MOONCAKE_MPI_TCP_STREAMS",
        parse_integer,
        "2",
        "connections to each peer for large messages, 0 to 4, beside the one for all others",
    ),
    "tcp_stream_bytes": Setting(
        "MOONCAKE_MPI_TCP_STREAM_BYTES",
        parse_size,
        "1M",
        "the shortest message, in bytes, that goes over those",
    ),
}
#: What the engine reads by itself, and its meaning.
HOST_ID = (
    "MOONCAKE_MPI_HOST_ID",
    "ranks with different values count as ranks of different hosts, whatever machine they are on",
)
_PREFIX = "MOONCAKE_MPI_"
# What the scripts of a checkout and its tests read.
_OF_TOOLS = ("FAKE_", "FUZZ", "GPU_", "HOSTS", "LAUNCH_", "MPI", "RDMA_LAB", "TEST_", "VENV")


def unknown_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables that look like settings and are none, and for each the nearest one or nothing."""
    environ = os.environ if environ is None else environ
    known = {setting.variable.removeprefix(_PREFIX) for setting in SETTINGS.values()}
    known.add(HOST_ID[0].removeprefix(_PREFIX))
    names = sorted(name.removeprefix(_PREFIX) for name in environ if name.startswith(_PREFIX))
    unknown = {}
    for name in names:
        if name not in known and not name.startswith(_OF_TOOLS):
            nearest = get_close_matches(name, known, 1, 0.75)
            unknown[_PREFIX + name] = _PREFIX + nearest[0] if nearest else ""
    return unknown
