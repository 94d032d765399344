"""A libcuda without a GPU, for jobs of several processes: arrays in device memory, streams, events.

The library is ``native/drivers/cuda/fake``, which ``path()`` builds where it is not built yet and
``library()`` loads; ``fake_cuda.h`` there says what else a test may ask of it. What is here plays the
program: it retains a device's primary context when it first uses the device and keeps it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import math
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "native"
NAME = "libmooncake_mpi_fake_cuda.so"
FLAGS = ("-std=c++20", "-O1", "-fPIC", "-shared", "-Wl,-soname," + NAME)

LEGACY_STREAM = 1
PER_THREAD_STREAM = 2
NOT_READY = 600


class CudaError(RuntimeError):
    """A driver call failed; ``code`` is its CUresult."""

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function}: {error_name(code)} ({code})")
        self.code = code


def path() -> Path:
    """The library, built of the sources as they are now; any number of processes may ask at once."""
    sources = sorted((NATIVE / "drivers/cuda/fake").glob("*.cc"))
    headers = [*(NATIVE / "drivers/cuda/fake").glob("*.h"), NATIVE / "drivers/cuda/abi.h"]
    compiler = os.environ.get("CXX") or shutil.which("c++") or "c++"
    key = hashlib.sha256(repr((compiler, FLAGS)).encode())
    for file in [*sources, *sorted(headers)]:
        key.update(file.name.encode() + b"\0" + file.read_bytes())
    folder = ROOT / "build" / "fake_cuda" / key.hexdigest()[:16]
    built = folder / NAME
    if built.exists():
        return built
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            unfinished = folder / (NAME + ".unfinished")
            # all sources as one: a quarter of the time
            text = "".join(f'#include "{source}"\n' for source in sources)
            command = [*compiler.split(), *FLAGS, f"-I{NATIVE}", "-x", "c++", "-"]
            command += ["-o", str(unfinished), "-ldl", "-lpthread"]
            # a sanitizer that is preloaded for this process is not the compiler's
            environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
            subprocess.run(command, input=text, text=True, check=True, env=environment)
            unfinished.rename(built)
    return built


@functools.cache
def library() -> ctypes.CDLL:
    """The library, loaded and initialised."""
    loaded = ctypes.CDLL(str(path()))
    size, address = ctypes.c_size_t, ctypes.c_uint64
    handle, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("fake_cuda_fail", None, (text, ctypes.c_int, ctypes.c_int, ctypes.c_int)),
        ("fake_cuda_delay", None, (text, ctypes.c_uint)),
        ("fake_cuda_calls", ctypes.c_long, (text,)),
        ("fake_cuda_all_calls", ctypes.c_long, ()),
        ("fake_cuda_in_call", ctypes.c_int, ()),
        ("fake_cuda_break", None, (ctypes.c_int,)),
        ("fake_cuda_reset", None, ()),
        ("fake_cuda_contexts", ctypes.c_uint, ()),
        *((f"fake_cuda_{what}", size, ()) for what in COUNTED),
        ("fake_cuda_alloc_pool", address, (size,)),
        ("fake_cuda_bytes", handle, (address,)),
        ("fake_cuda_operation_time", None, (ctypes.c_uint,)),
        ("fake_cuda_hold", None, (handle, ctypes.c_int)),
        ("fake_cuda_let_go", None, (handle, ctypes.c_uint)),
        ("fake_cuda_pending", ctypes.c_long, (handle,)),
        ("fake_cuda_channel", ctypes.c_int, (handle,)),
        ("fake_cuda_set_capturing", None, (handle, ctypes.c_int)),
        ("cuMemAlloc", ctypes.c_int, (handle, size)),
        ("cuMemFree", ctypes.c_int, (address,)),
        ("cuMemHostAlloc", ctypes.c_int, (handle, size, ctypes.c_uint)),
        ("cuMemFreeHost", ctypes.c_int, (handle,)),
        ("cuMemcpyAsync", ctypes.c_int, (address, address, size, handle)),
        ("cuCtxPushCurrent", ctypes.c_int, (handle,)),
        ("cuCtxPopCurrent", ctypes.c_int, (handle,)),
        ("cuCtxSetCurrent", ctypes.c_int, (handle,)),
        ("cuDevicePrimaryCtxRetain", ctypes.c_int, (handle, ctypes.c_int)),
        ("cuStreamCreateWithPriority", ctypes.c_int, (handle, ctypes.c_uint, ctypes.c_int)),
        *(
            (f"cuStream{what}", ctypes.c_int, (handle,))
            for what in ("Destroy", "Query", "Synchronize")
        ),
        ("cuStreamWaitEvent", ctypes.c_int, (handle, handle, ctypes.c_uint)),
        ("cuStreamWaitValue32", ctypes.c_int, (handle, address, ctypes.c_uint32, ctypes.c_uint)),
        ("cuStreamWriteValue32", ctypes.c_int, (handle, address, ctypes.c_uint32, ctypes.c_uint)),
        ("cuStreamBeginCapture", ctypes.c_int, (handle, ctypes.c_int)),
        ("cuStreamEndCapture", ctypes.c_int, (handle, handle)),
        ("cuGraphInstantiate", ctypes.c_int, (handle, handle, address)),
        ("cuGraphLaunch", ctypes.c_int, (handle, handle)),
        ("cuGraphExecDestroy", ctypes.c_int, (handle,)),
        ("cuGraphDestroy", ctypes.c_int, (handle,)),
        ("fake_cuda_define_kernel", None, (text, handle, handle, handle, ctypes.c_uint)),
        ("cuModuleLoadData", ctypes.c_int, (handle, text)),
        ("cuModuleGetFunction", ctypes.c_int, (handle, handle, text)),
        ("cuLaunchKernel", ctypes.c_int, (handle, *[ctypes.c_uint] * 7, handle, handle, handle)),
        ("cuEventCreate", ctypes.c_int, (handle, ctypes.c_uint)),
        ("cuEventRecord", ctypes.c_int, (handle, handle)),
        *(
            (f"cuEvent{what}", ctypes.c_int, (handle,))
            for what in ("Destroy", "Query", "Synchronize")
        ),
    ):
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    code = loaded.cuInit(0)
    if code:
        raise RuntimeError(f"the fake libcuda cannot be used: error {code}")
    return loaded


COUNTED = ("allocations", "pinned", "imports", "streams", "events")


def error_name(code: int) -> str:
    name = ctypes.c_char_p()
    library().cuGetErrorName(code, ctypes.byref(name))
    return (name.value or b"unknown").decode()


def call(function: str, *arguments) -> None:
    """A driver call that has to succeed."""
    code = getattr(library(), function)(*arguments)
    if code:
        raise CudaError(function, code)


def fail(function: str, error: int, *, skip: int = 0, times: int = 1) -> None:
    """Make calls of a function fail in this process."""
    library().fake_cuda_fail(function.encode(), error, skip, times)


def calls(function: str) -> int:
    """How often a function was called in this process."""
    return library().fake_cuda_calls(function.encode())


def device_count() -> int:
    count = ctypes.c_int()
    call("cuDeviceGetCount", ctypes.byref(count))
    return count.value


@functools.cache
def context(device: int) -> int:
    """The device's primary context, retained from the first use of the device on."""
    found = ctypes.c_void_p()
    call("cuDevicePrimaryCtxRetain", ctypes.byref(found), device)
    return found.value


def set_device(device: int | None) -> None:
    """Make the device's context this thread's current one, as a framework does; None: no context."""
    call("cuCtxSetCurrent", None if device is None else context(device))


@contextlib.contextmanager
def current(device: int):
    """Have the device's context current for a while."""
    call("cuCtxPushCurrent", context(device))
    try:
        yield
    finally:
        call("cuCtxPopCurrent", None)


def _handle(stream: Stream | int | None) -> int | None:
    return stream.handle if isinstance(stream, Stream) else stream


class Stream:
    """A stream of a device; non-blocking unless it is to work in turn with the legacy stream."""

    def __init__(self, device: int = 0, *, blocking: bool = False) -> None:
        made = ctypes.c_void_p()
        with current(device):
            call("cuStreamCreateWithPriority", ctypes.byref(made), int(not blocking), 0)
        self.device = device
        self.handle: int = made.value

    def query(self) -> bool:
        return _is_done("cuStreamQuery", self.handle)

    def synchronize(self) -> None:
        call("cuStreamSynchronize", self.handle)

    def hold(self, on: bool = True) -> None:
        """Hold back what the stream was given and will be given."""
        library().fake_cuda_hold(self.handle, int(on))

    def let_go(self, operations: int | None = None) -> None:
        """Run so many operations of a held stream, or hold it no more."""
        if operations is None:
            self.hold(False)  # noqa: FBT003
        else:
            library().fake_cuda_let_go(self.handle, operations)

    def set_capturing(self, on: bool) -> None:
        library().fake_cuda_set_capturing(self.handle, int(on))

    @property
    def pending(self) -> int:
        """Operations that are not done."""
        return library().fake_cuda_pending(self.handle)

    @property
    def channel(self) -> int:
        return library().fake_cuda_channel(self.handle)

    def wait_event(self, event: Event) -> None:
        call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def destroy(self) -> None:
        call("cuStreamDestroy", self.handle)


class Kernel:
    """A kernel that does nothing, and is loaded when it is launched for the first time."""

    _function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: 0)

    def __init__(self, device: int = 0) -> None:
        library().fake_cuda_define_kernel(b"nothing", self._function, None, None, 0)
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        with current(device):
            call("cuModuleLoadData", ctypes.byref(module), b"any image")
        call("cuModuleGetFunction", ctypes.byref(function), module, b"nothing")
        self.handle = function.value

    def launch(self, stream: Stream | int) -> None:
        call("cuLaunchKernel", self.handle, *[1] * 6, 0, _handle(stream), None, None)


class Graph:
    """What a stream is given while it is captured, to be launched as often as wanted.

    ``with`` it is captured, in CUDA's default mode: nobody in the process may disturb that.
    """

    def __init__(self, stream: Stream, mode: int = 0) -> None:
        self._stream = stream
        self._mode = mode
        self._graph = ctypes.c_void_p()
        self._exec = ctypes.c_void_p()

    def __enter__(self) -> Graph:
        call("cuStreamBeginCapture", self._stream.handle, self._mode)
        return self

    def __exit__(self, kind, *_) -> None:
        call("cuStreamEndCapture", self._stream.handle, ctypes.byref(self._graph))
        if kind is None:
            call("cuGraphInstantiate", ctypes.byref(self._exec), self._graph, 0)

    def launch(self, stream: object = None) -> None:
        """In the captured stream, where no other one is given."""
        assert stream is None or getattr(stream, "ptr", None) == self._stream.handle
        call("cuGraphLaunch", self._exec, self._stream.handle)

    def destroy(self) -> None:
        call("cuGraphExecDestroy", self._exec)
        call("cuGraphDestroy", self._graph)


class Event:
    """An event of a device."""

    def __init__(self, device: int = 0) -> None:
        made = ctypes.c_void_p()
        with current(device):
            call("cuEventCreate", ctypes.byref(made), 2)
        self.device = device
        self.handle: int = made.value

    def record(self, stream: Stream | int) -> None:
        with current(self.device):
            call("cuEventRecord", self.handle, _handle(stream))

    def query(self) -> bool:
        return _is_done("cuEventQuery", self.handle)

    def synchronize(self) -> None:
        call("cuEventSynchronize", self.handle)

    def destroy(self) -> None:
        call("cuEventDestroy", self.handle)


def _is_done(function: str, handle: int) -> bool:
    code = getattr(library(), function)(handle)
    if code not in {0, NOT_READY}:
        raise CudaError(function, code)
    return code == 0


class Array:
    """An array in device memory, as any library shows its own: by ``__cuda_array_interface__``.

    ``stream`` is what the interface says of it: a Stream, LEGACY_STREAM, PER_THREAD_STREAM, or None
    where nothing has to be waited for. ``get`` and ``set`` are the processor's, past all streams.
    """

    def __init__(self, shape, dtype, device: int = 0, *, stream=None, pool: bool = False) -> None:
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.dtype = np.dtype(dtype)
        self.device = device
        self.stream = stream
        self.readonly = False
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        self.ptr = 0
        self.base: Array | None = None  # whose memory it is; None: its own
        if self.nbytes:
            with current(device):
                self.ptr = _allocate_pool(self.nbytes) if pool else _allocate(self.nbytes)

    @property
    def __cuda_array_interface__(self) -> dict:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.ptr, self.readonly),
            "strides": None,
            "version": 3,
            "stream": _handle(self.stream),
        }

    def _host(self) -> np.ndarray:
        if not self.nbytes:
            return np.empty(self.shape, self.dtype)
        data = library().fake_cuda_bytes(self.ptr)
        if not data:
            raise ValueError("the memory of this array was freed")
        raw = (ctypes.c_byte * self.nbytes).from_address(data)
        return np.frombuffer(raw, self.dtype).reshape(self.shape)

    def get(self) -> np.ndarray:
        """What is in it now, as an array of its own."""
        return self._host().copy()

    def set(self, values) -> Array:
        """Fill it; returns the array."""
        self._host()[...] = values
        return self

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Array:
        """Some of its rows, in the same memory."""
        start, stop, step = rows.indices(self.shape[0])
        if step != 1:
            raise ValueError("only rows one after the other")
        part = object.__new__(Array)
        part.__dict__.update(self.__dict__)
        part.shape = (max(stop - start, 0), *self.shape[1:])
        part.nbytes = math.prod(part.shape) * self.dtype.itemsize
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        part.ptr = self.ptr + start * row if part.nbytes else 0
        part.base = self
        return part

    def free(self) -> None:
        """Give the memory back. There is no other way: the driver counts what is left."""
        if self.base is not None:
            raise ValueError("the memory is another array's")
        if self.ptr:
            call("cuMemFree", self.ptr)
        self.ptr = 0


def array(shape, dtype, device: int = 0, *, stream=None, pool: bool = False) -> Array:
    """An uninitialised array; of a pool: memory that no other process can open."""
    return Array(shape, dtype, device, stream=stream, pool=pool)


def copy_async(to: Array, source: Array, stream: Stream | int) -> None:
    """Copy one array to another on a stream."""
    with current(to.device):
        call("cuMemcpyAsync", to.ptr, source.ptr, source.nbytes, _handle(stream))


def _allocate(nbytes: int) -> int:
    address = ctypes.c_uint64()
    call("cuMemAlloc", ctypes.byref(address), nbytes)
    return address.value


def _allocate_pool(nbytes: int) -> int:
    address = library().fake_cuda_alloc_pool(nbytes)
    if not address:
        raise MemoryError
    return address
