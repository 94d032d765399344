"""A libcuda without a GPU, for jobs of several processes: arrays in device memory, streams, events.

The library is ``native/drivers/cuda/fake``, which ``path()`` builds where it is not built yet and
``library()`` loads; ``fake_cuda.h`` there says what else a test may ask of it. What is here plays the
program: it retains a device's primary context when it first uses the device and keeps it.
"""

from __future__ import annotations

import ctypes
import gc
import math

import numpy as np
from fake_cuda_library import (
    COUNTED,
    LEGACY_STREAM,
    NOT_READY,
    PER_THREAD_STREAM,
    CudaError,
    call,
    calls,
    context,
    current,
    delay,
    device_count,
    error_name,
    fail,
    library,
    path,
    set_device,
)

__all__ = [
    "COUNTED",
    "LEGACY_STREAM",
    "NOT_READY",
    "PER_THREAD_STREAM",
    "Array",
    "CudaError",
    "Event",
    "Graph",
    "Kernel",
    "Stream",
    "array",
    "call",
    "calls",
    "context",
    "copy_async",
    "current",
    "delay",
    "device_count",
    "error_name",
    "fail",
    "library",
    "path",
    "set_device",
]


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
        # An array that the collector finds meanwhile would be freed, which ends a capture.
        self._collects = gc.isenabled()
        gc.collect()
        gc.disable()
        call("cuStreamBeginCapture", self._stream.handle, self._mode)
        return self

    def __exit__(self, kind, *_) -> None:
        if self._collects:
            gc.enable()
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

    def viewed(self, shape, dtype) -> Array:
        """The same memory, of another shape and type."""
        view = object.__new__(Array)
        view.__dict__.update(self.__dict__)
        view.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        view.dtype = np.dtype(dtype)
        assert math.prod(view.shape) * view.dtype.itemsize == self.nbytes
        view.base = self
        return view

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
