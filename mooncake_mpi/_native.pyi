"""The point-to-point engine of mooncake_mpi."""

from collections.abc import Callable, Sequence
import enum
from typing import Any, Literal

from mpi4py.MPI import Status

import mooncake_mpi.requests

class SendMode(enum.Enum):
    """How a send ends."""

    STANDARD = 0

    SYNCHRONOUS = 1

    READY = 2

    BUFFERED = 3

class MatchChannel(enum.Enum):
    """
    The matching spaces of a communicator: messages of different channels never match each other.
    """

    MESSAGES = 0

    PARTITION_DATA = 1

    PARTITION_SETUP = 2

    AGREEMENTS = 3

    OBJECT_ARRAYS = 4

class Communicator:
    """A communicator's matching space in the engine."""

    def __init__(self, rank: int, size: int, tag_ub: int) -> None:
        """Allocate this process's context of a communicator of `size` ranks."""

    @property
    def head(self) -> bytes:
        """
        What every process must have of this one first, HEAD_BYTES long: allgather it.
        """

    @property
    def entry(self) -> bytes:
        """This process's address, as long as its head says."""

    def activate(self, entries: bytearray, entry_bytes: int, label: str = "") -> None:
        """
        Take the addresses of all ranks, in rank order, each with zeros behind it up to so many bytes; `label` is for people.
        """

    def inherit(self, parent: Communicator, ranks: Sequence[int], label: str = "") -> None:
        """
        Be a communicator of members of `parent`, by rank there, or of all; then join().
        """

    @property
    def has_spares(self) -> bool:
        """Whether take_spare() gives one; the same at every member."""

    @property
    def spares_at_once(self) -> int:
        """How many make_spares() makes; the same at every member."""

    def make_spares(self) -> bytes:
        """
        Make duplicates for now and for later; their heads: allgather them for keep_spares().
        """

    def keep_spares(self, heads: bytearray) -> bool:
        """
        The heads of all members' spares; every member calls it. False, and there are none: one of the members cannot take part.
        """

    def take_spare(self) -> Communicator | None:
        """
        A duplicate that the members know already, the same at each; None: make_spares() first.
        """

    def put_back(self, spare: Communicator) -> None:
        """It was not used, at any member."""

    def begin(self, label: str) -> None:
        """Use a spare; `label` is for people."""

    @property
    def number(self) -> int:
        """
        Of this process's context: every member gives it to the others, for join().
        """

    def number_at(self, rank: int) -> int:
        """
        The number that the process of that rank gave its context; 0 where there is none.
        """

    def join(self, numbers: Sequence[int]) -> None:
        """After inherit(): take the members' numbers, in rank order."""

    def join_heads(self, heads: bytearray, ranks: Sequence[int]) -> bool:
        """
        The same, from the heads of all of the parent's processes; False, and nothing is taken: one of them cannot take part.
        """

    def reshape(self, rank: int, size: int) -> None:
        """
        Before activate(): this process is `rank` of fewer members than it was made for.
        """

    def close(self) -> None:
        """The communicator was freed: later calls raise ERR_COMM."""

    def failures(self) -> tuple[list[int], int]:
        """
        The ranks that have failed, in the order of notice, and how many are acknowledged.
        """

    def acknowledge(self, count: int) -> int:
        """
        Receives from any source go on without the first `count` of them; how many are acknowledged now.
        """

    def revoke(self) -> None:
        """Revoke the communicator at every rank."""

    @property
    def revoked(self) -> bool:
        """Whether a rank has revoked the communicator."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def tag_ub(self) -> int: ...

HEAD_BYTES: int = 32

HEAD_OF_NO_MEMBER: bytes = ...

HEAD_OF_REFUSAL: bytes = ...

def objection_to_heads(heads: bytes) -> str:
    """
    Why these heads, one of each process, do not allow to go on; empty when they do.
    """

class Request:
    """A non-blocking operation of the engine."""

    _finish: Callable[[Any], Any] | None
    _result: Any

    def __bool__(self) -> bool: ...
    @property
    def _state(self) -> str: ...
    def _start(self) -> None: ...
    @staticmethod
    def _start_all(requests: list[Any], /) -> list[Any]: ...
    @property
    def _context(self) -> int: ...
    @property
    def _shared(self) -> Any: ...
    def _share(self, owner: Any, /) -> None: ...
    def _adopt(self, other: Request, /) -> None: ...
    def _poll(self) -> bool: ...
    def Wait(self, status: Status | None = None) -> Literal[True]: ...
    def _wait(self, status: Status | None = None) -> Literal[True]: ...
    def _test(self, status: Status | None = None) -> bool: ...
    def Test(self, status: Status | None = None) -> bool: ...
    def Get_status(self, status: Status | None = None) -> bool: ...
    def Cancel(self) -> None: ...
    def Free(self) -> None: ...
    @classmethod
    def Waitall(
        cls, requests: Sequence[Any], statuses: list[Status] | None = None
    ) -> Literal[True]: ...

class OwnedBuffer:
    """Memory that the engine allocated for a received message."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def start(config: dict[str, Any]) -> None:
    """Start the engine of this process; again does nothing."""

def leave_interpreter() -> None:
    """
    The interpreter is about to end: the engine's threads ask it for nothing any more.
    """

def finalize() -> None:
    """
    Deliver what was sent, before MPI is finalized; no message is received any more.
    """

def set_exit_status(status: int) -> None:
    """The exit status of this process, if it is a forked child."""

LEFT_BEHIND: str = ...

def left_behind() -> bool:
    """
    Whether this process was forked from one that communicates, and so cannot.
    """

def flush(timeout_ms: int) -> bool:
    """Wait until every buffered message was sent; False if it took longer."""

def progress() -> int:
    """Poll once; work done."""

def set_hooks(
    resolve: Callable[..., Any],
    fill_status: Callable[..., None],
    raise_error: Callable[[str, str], Any],
    report_error: Callable[..., Any],
    error_type: type,
    look_in_library: Callable[..., Any],
    wait_all: Callable[..., Any],
    request_type: type,
    persistent_type: type,
    status_type: type,
    warn_of_detour: Callable[[str], None],
) -> None:
    """Set the package's callables and request classes."""

def set_constants(
    proc_null: int, any_source: int, any_tag: int, error_classes: dict[str, int]
) -> None:
    """Set the MPI library's values, and its error classes by name."""

def error_names() -> list[str]:
    """The names of the error classes that the engine reports."""

def install(type: type, slot_offset: int, any_source: int, any_tag: int) -> None:
    """Put the native methods on a communicator class."""

def gpu_objection(address: int, nbytes: int) -> str:
    """Why these bytes cannot be used as a GPU's memory; empty if they can."""

def learn_datatype(datatype: object, size: int) -> None:
    """
    Read specifications with this object, `size` bytes without a gap, without asking again.
    """

def learn_array_type(
    array: object, address: int, bytes: int, contiguous: bool, writable: bool, number: bool
) -> bool:
    """
    Read arrays of this NumPy type from their fields, if those agree with what NumPy says.
    """

def set_array_teacher(teacher: Callable[[type], bool]) -> None:
    """
    Ask about each type of buffers that is new, until the answer is that it was NumPy's.
    """

def forget_array_type() -> None:
    """Read arrays through the buffer protocol only."""

def learn_tensor_type(
    type: type, exchange_api: object, obstacles: tuple[Callable[[Any], bool], ...]
) -> bool:
    """
    Read host tensors of this type through DLPack's C table, unless an obstacle is true.
    """

def learn_status(
    source: int, tag: int, error: int, count: int, cancelled: int, split_bit: int
) -> None:
    """
    Write mpi4py's Status objects at these offsets; zeros for leaving them to the package.
    """

def write_status(status: object, source: int, tag: int, error: int, nbytes: int) -> None:
    """Fill an mpi4py Status with the learned layout."""

def post_send(
    communicator: Communicator,
    address: int,
    nbytes: int,
    keepalive: Any,
    dest: int,
    tag: int,
    mode: SendMode = SendMode.STANDARD,
    channel: MatchChannel = MatchChannel.MESSAGES,
) -> mooncake_mpi.requests.Request:
    """Send `nbytes` at `address`."""

def isend_bytes(
    communicator: Communicator,
    buf: Any,
    dest: int,
    tag: int,
    mode: SendMode = SendMode.STANDARD,
    channel: MatchChannel = MatchChannel.MESSAGES,
) -> mooncake_mpi.requests.Request:
    """Non-blocking send of a contiguous buffer."""

def post_recv(
    communicator: Communicator,
    address: int,
    nbytes: int,
    keepalive: Any,
    source: int,
    tag: int,
    channel: MatchChannel = MatchChannel.MESSAGES,
) -> mooncake_mpi.requests.Request:
    """Receive at most `nbytes` to `address`."""

def post_recv_any_size(
    communicator: Communicator, source: int, tag: int, channel: MatchChannel = MatchChannel.MESSAGES
) -> mooncake_mpi.requests.Request:
    """
    Receive a message of any size into memory of the engine: the result is an OwnedBuffer.
    """

def post_batch(
    communicator: Communicator, operations: Sequence[tuple[bool, Any, int, int]]
) -> list[mooncake_mpi.requests.Request]:
    """
    Start sends and receives as one, in order: (send, buf, rank, tag) each. Where one cannot be started its request is complete with the error, and those behind it are started.
    """

def send(
    communicator: Communicator,
    message: bytes | tuple[list[tuple[int, int]], Any],
    dest: int,
    tag: int,
    mode: SendMode = SendMode.STANDARD,
) -> None:
    """
    Send one buffer, or bytes at several places: (addresses and lengths, what keeps them).
    """

def recv(
    communicator: Communicator,
    place: tuple[int, int, Any] | None,
    source: int,
    tag: int,
    status: Status | None = None,
) -> Any:
    """
    Receive into memory of the engine: an OwnedBuffer. Or to (address, length, what keeps it): the number of bytes. None from PROC_NULL.
    """

def sendrecv(
    communicator: Communicator,
    message: bytes | tuple[list[tuple[int, int]], Any],
    dest: int,
    sendtag: int,
    place: tuple[int, int, Any] | None,
    source: int,
    recvtag: int,
    status: Status | None = None,
) -> Any:
    """As send() and recv() at once."""

def give_back(communicator: Communicator, message: OwnedBuffer) -> None:
    """
    Put a copy of a message that was received back into the queue, before all others.
    """

def set_pickling(
    dumps: Callable[..., Any],
    loads: Callable[..., Any],
    load: Callable[..., Any],
    not_loaded: Callable[..., None],
    is_interruption: Callable[[BaseException], bool],
    send: Callable[..., None],
    recv: Callable[..., Any],
) -> None:
    """
    What a communicator's send and recv call: for plain objects and ordinary messages; for large messages; where unpickling raised; to tell what a signal's handler raised; for any other object; and for a receive into a buffer.
    """

class MatchedMessage:
    """A message taken by a matched probe."""

    @property
    def source(self) -> int: ...
    @property
    def tag(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def received(self) -> bool: ...

def improbe(
    communicator: Communicator, source: int, tag: int, channel: MatchChannel = MatchChannel.MESSAGES
) -> MatchedMessage | None:
    """Take a waiting message out of the queue, or None."""

def mprobe(communicator: Communicator, source: int, tag: int) -> MatchedMessage:
    """Wait for a message and take it out of the queue."""

def message_recv(message: MatchedMessage, buf: Any, status: Status | None = None) -> None:
    """Receive a matched message into `buf`."""

def message_post_recv(message: MatchedMessage, buf: Any) -> mooncake_mpi.requests.Request:
    """Non-blocking form of message_recv."""

def message_recv_any_size(message: MatchedMessage, status: Status | None = None) -> OwnedBuffer:
    """Receive a matched message into memory of the engine."""

def message_post_recv_any_size(message: MatchedMessage) -> mooncake_mpi.requests.Request:
    """Non-blocking form of message_recv_any_size."""

def to_int(value: Any) -> int:
    """
    What a rank, a tag or a number of a partition means, as mpi4py takes it.
    """

def completed_request(source: int) -> mooncake_mpi.requests.Request:
    """A request that is complete: an operation with PROC_NULL."""

def wait_for_requests(requests: Sequence[Request], all: bool, timeout_ms: int) -> bool:
    """
    Wait until one (or all) of the engine's requests is complete; the requests are not ended.
    """

def call_when_done(request: Request, callable: Callable[[], Any]) -> bool:
    """
    Call soon after the request's operation is done, in any thread; False if it is done.
    """

def library_callbacks(
    query: Callable[[int, int], int],
    free: Callable[[int], int],
    cancel: Callable[[int, int], int],
    poll: Callable[[int], int],
    wait: Callable[[int], int],
) -> list[int]:
    """Addresses of the functions of generalized requests, which call these."""

def call_locked(lock: Any, function: Callable[[], bool]) -> bool | None:
    """Call a function with a lock held; None where it is held already."""

def put_buffers_in(stream: bytes, sizes: Sequence[int]) -> list[bytes] | None:
    """
    What goes around the buffers of a pickle stream, which lie beside it, to make one stream of all; None if they do not belong together.
    """

def take_buffers_out(address: int, nbytes: int) -> tuple[bytes, list[tuple[int, int]]] | None:
    """
    A pickle stream without the buffers that put_buffers_in() marked, and where in the message they begin and end; None if there are none.
    """

def boards(segments: Sequence[tuple[int, int]]) -> tuple[list[dict[str, Any]], str]:
    """
    What processes wait for, given as (pid, descriptor of the segment), and those that wait for each other, as text. Needs no engine.
    """

def explain() -> str:
    """What this process waits for, and the heads of its queues."""

def stats() -> dict[str, int]:
    """Counters of this process's engine."""

def pending() -> list[dict[str, Any]]:
    """The operations under way."""

def rdma_ports() -> list[dict[str, Any]]:
    """The RDMA ports of this machine, and which of them are used."""

def tcp_addresses() -> list[dict[str, Any]]:
    """
    The addresses of this host, the best first, and which of them other hosts are told.
    """

def route_to(communicator: Communicator, rank: int) -> str:
    """
    From where to where messages to that rank go, if its lane has a word for it.
    """

def missing_lanes() -> dict[str, str]:
    """The lanes that this process does without, and why."""

LANES: tuple[str, ...]

def path_troubles(communicator: Communicator, rank: int) -> list[str]:
    """
    Parts of the way to that rank that are not used, and why; the others carry its messages.
    """

def lane_of(communicator: Communicator, rank: int) -> str:
    """The lane that reaches a rank, or why there is none."""

def cross_memory_with(communicator: Communicator, rank: int) -> bool:
    """Whether that rank's memory can be read directly."""

def transfers(communicator: Communicator | None) -> list[dict[str, Any]]:
    """
    Messages and bytes to each rank and from it, by path; without a communicator, of each process that this one knows.
    """

def simulated_entries(own: bytes, members: int, per_host: int) -> tuple[bytearray, int]:
    """
    Addresses of a job that is not there, all of other hosts but the first, and the bytes of each.
    """

def allocated_bytes() -> int:
    """
    What is allocated and not freed in this process, of the C library's memory.
    """

class SharedBuffer:
    """Host memory that the processes of the node can map; freed with its last view."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def allocate_shared(nbytes: int, zeroed: bool = False) -> SharedBuffer:
    """Memory that peers can map; ordinary memory where there is none."""

def allocate_block(nbytes: int) -> int:
    """
    The address of memory that peers can map, or 0; free it with free_block.
    """

def free_block(address: int) -> bool:
    """Free such memory; False when the address is none."""

def shared_memory_usage() -> dict[str, int]:
    """
    Regions that peers can map, bytes in use, bytes kept for the next allocation, and allocations that took ordinary memory.
    """

def keep_shared_memory(nbytes: int) -> None:
    """How much freed memory may be kept for the next allocation."""

class StreamEnd:
    """The end of a message in the order of a stream."""

    def finish(self, request: object, stream: object | None) -> None:
        """
        What `stream` (None: that of the call) is given from now on comes after the message of `request`, which is null then.
        """

    def leave(self, request: object) -> None:
        """Have the message of `request`, which is null then, arrive by itself."""

    def landed(self, request: object) -> bool:
        """
        Once `request` is complete: whether the message, if any, is in the program's array.
        """

def enqueue(
    communicator: Communicator, send: bool, buf: object, rank: int, tag: int, stream: object | None
) -> None:
    """
    Send or receive in the order of a stream (None: that of the array), which waits for the end.
    """

def start_enqueued(
    communicator: Communicator, send: bool, buf: object, rank: int, tag: int, stream: object | None
) -> tuple[Any, Any]:
    """
    The same as a request, and the StreamEnd that finishes it; None where there is nothing to finish.
    """

class StreamWait:
    """The wait of a stream for a message."""

    def over(self) -> bool:
        """Whether the stream has come behind the message."""

    def let_go(self) -> None:
        """Of a send: the stream goes on though the message was not taken."""

def wait_in_stream(request: Request, stream: int) -> StreamWait | None:
    """
    Have a stream wait for a message of a GPU's array that is under way, so that what it is given from now on comes after the message. None: that one is over, which is looked for a few microseconds, or the caller has to wait for it.
    """

class GpuRows:
    """Rows of a GPU's array, in one piece of the GPU's memory."""

    def __init__(
        self, address: int, row_bytes: int, pitch: int, rows: int, stream: int, receives: bool
    ) -> None:
        """What is to be sent is gathered when `stream` has come here."""

    @property
    def address(self) -> int:
        """Of the piece."""

    def unpack(self, nbytes: int) -> None:
        """
        Put what was received, so many bytes, into the rows; of what is sent nothing.
        """

def allow_gpu_latency(on: bool) -> None:
    """
    Let a block of a kernel stay on the GPUs while small messages follow each other closely; each True needs its False.
    """

def make_numpy_handler(array_api: Any, threshold_bytes: int) -> Any:
    """
    A data allocator for NumPy: arrays of so many bytes and more get memory that peers can map.
    """

def set_numpy_handler(array_api: Any, handler: Any) -> Any:
    """
    Make a data allocator the current one of this context; the previous one.
    """
