"""What the programs of tests/gpu use of CuPy, over the libcuda that needs no GPU.

It says that the programs themselves have no mistake; of a GPU it says nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[3]))

import fake_cuda

__version__ = "stand-in"
uint8, float16, float32, float64 = np.uint8, np.float16, np.float32, np.float64


class _State(threading.local):
    allocator = None
    device = 0
    streams = (None,)


_state = _State()
_allocator: list = [None]


class Stream:
    """A stream, current within ``with``."""

    def __init__(self, null=False, non_blocking=False):
        self.held_until = 0.0
        self._made = None if null else fake_cuda.Stream(_state.device, blocking=not non_blocking)
        self.ptr = 0 if null else self._made.handle

    def __enter__(self):
        _state.streams = (*_state.streams, self)
        return self

    def __exit__(self, *_):
        _state.streams = _state.streams[:-1]

    @property
    def done(self):
        return self._made.query()

    def begin_capture(self):
        self._graph = fake_cuda.Graph(self._made)
        self._graph.__enter__()

    def end_capture(self):
        self._graph.__exit__(None, None, None)
        return self._graph

    def synchronize(self):
        fake_cuda.call("cuStreamSynchronize", self.ptr or fake_cuda.LEGACY_STREAM)

    def wait_event(self, event):
        fake_cuda.call(
            "cuStreamWaitEvent", self.ptr or fake_cuda.LEGACY_STREAM, event.made.handle, 0
        )

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event


Stream.null = Stream(null=True)


def _current():
    return _state.streams[-1] or Stream.null


def _handle(stream):
    return stream.ptr or fake_cuda.LEGACY_STREAM


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.made = fake_cuda.Event(_state.device)
        self.at = 0.0

    def record(self, stream=None):
        self.at = time.perf_counter()
        self.made.record(_handle(stream or _current()))

    @property
    def done(self):
        return self.made.query()

    def synchronize(self):
        self.made.synchronize()
        self.at = time.perf_counter()


class Device:
    def __init__(self, device=None):
        self.id = _state.device if device is None else device

    def use(self):
        _state.device = self.id
        fake_cuda.set_device(self.id)

    def synchronize(self):
        with fake_cuda.current(self.id):
            fake_cuda.call("cuStreamSynchronize", fake_cuda.LEGACY_STREAM)

    def __enter__(self):
        self.before = _state.device
        self.use()
        return self

    def __exit__(self, *_):
        Device(self.before).use()


class _Memory:
    def __init__(self, shape, dtype, pool):
        self.array = fake_cuda.array(shape, dtype, _state.device, pool=pool)
        self.ptr = self.array.ptr

    def __del__(self):
        with contextlib.suppress(Exception):
            self.array.free()


class ndarray:
    def __init__(self, shape, dtype=np.float64, memptr=None, order="C"):
        self.__dict__.update(_view(memptr, memptr.array.viewed(shape, dtype), order).__dict__)

    @property
    def T(self):
        """Of two or fewer axes; who reads it looks at its memory alone."""
        other = "C" if self._by_columns else "F"
        return _view(self._memory, self.array.viewed(self.shape[::-1], self.dtype), other)

    def copy(self):
        assert not self._by_columns
        new = empty(self.shape, self.dtype)
        new[...] = self
        return new

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__ | {"stream": _handle(_current())}

    def _memset(self, value, size):
        assert size == self.nbytes
        self.array.set(np.full(size, value, "u1").view(self.dtype).reshape(self.shape))

    def get(self):
        _current().synchronize()
        if self._by_columns:
            return self.array.viewed(self.shape[::-1], self.dtype).get().T
        return self.array.get()

    def set(self, values):
        assert values.shape == self.shape, (values.shape, self.shape)
        assert values.dtype == self.dtype
        _current().synchronize()
        self.array.set(values)

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        return _view(self._memory, self.array[rows])

    def __setitem__(self, where, values):
        assert where is Ellipsis
        if isinstance(values, ndarray):
            if self.nbytes:
                fake_cuda.copy_async(self.array, values.array, _handle(_current()))
                self._source = values  # which must be there when the stream comes to it
        else:
            _current().synchronize()
            self.array.set(values)

    def __reduce__(self):
        return array, (self.get(),)


def _view(memory, array, order="C"):
    new = object.__new__(ndarray)
    new._memory, new.array = memory, array
    new.shape, new.dtype, new.nbytes = array.shape, array.dtype, array.nbytes
    new.size = int(np.prod(new.shape, dtype=np.int64))
    flat = new.size <= max(new.shape, default=1)
    new._by_columns = order == "F" and not flat
    new.flags = types.SimpleNamespace(
        c_contiguous=not new._by_columns, f_contiguous=flat or new._by_columns
    )
    new.device = Device(array.device)
    new.data = types.SimpleNamespace(ptr=array.ptr, memset=new._memset)
    return new


def empty(shape, dtype=np.float64, order="C"):
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = (_state.allocator or _allocator[0] or MemoryPool().malloc)(size)
    return _view(memory, memory.array.viewed(shape, dtype), order)


def ascontiguousarray(values):
    assert not values._by_columns
    return values


def array(values):
    made = empty(values.shape, values.dtype)
    made.set(np.ascontiguousarray(values))
    return made


def ones(shape, dtype=np.float64):
    return array(np.ones(shape, dtype))


def asarray(values):
    return values if isinstance(values, ndarray) else array(values)


def asnumpy(values):
    return values.get() if isinstance(values, ndarray) else np.asarray(values)


def matmul(_left, _right, out):
    """It takes a while, in its place of the stream."""
    fake_cuda.copy_async(out.array, _left.array, _handle(_current()))
    return out


class RawKernel:
    """The one kernel there is: what is put into the stream behind it waits so many nanoseconds."""

    def __init__(self, code, name):
        assert name in {"spin", "nothing"}
        self.nothing = fake_cuda.Kernel(_state.device) if name == "nothing" else None

    def compile(self):
        """It is."""

    def __call__(self, grid, block, arguments):
        if self.nothing is not None:
            self.nothing.launch(_handle(_current()))
            return
        if not arguments[0]:
            return
        stream, until = _current(), time.monotonic() + arguments[0] * 1e-9
        stream.held_until = max(stream.held_until, until)
        fake_cuda.library().fake_cuda_hold(stream.ptr, 1)
        self.scratch = empty(8)
        fake_cuda.copy_async(
            self.scratch.array, self.scratch.array, stream.ptr
        )  # what takes so long
        threading.Thread(target=self._let_go, args=(stream,), daemon=True).start()

    @staticmethod
    def _let_go(stream):
        while (rest := stream.held_until - time.monotonic()) > 0:
            time.sleep(rest)
        fake_cuda.library().fake_cuda_hold(stream.ptr, 0)


class MemoryAsyncPool:
    def malloc(self, size):
        return _Memory(size, np.uint8, pool=True)


class MemoryPool:
    def malloc(self, size):
        return _Memory(size, np.uint8, pool=False)


@contextlib.contextmanager
def _using_allocator(allocator):
    before, _state.allocator = _state.allocator, allocator
    try:
        yield
    finally:
        _state.allocator = before


class _Pool(MemoryPool):
    def free_all_blocks(self):
        pass


_default_pool = _Pool()


class _Runtime:
    CUDARuntimeError = RuntimeError

    @staticmethod
    def getDeviceCount():
        return fake_cuda.device_count()

    @staticmethod
    def getDeviceProperties(index):
        return {"name": b"no GPU (stand-in)", "totalGlobalMem": 0}

    @staticmethod
    def driverGetVersion():
        return 0

    @staticmethod
    def runtimeGetVersion():
        return 0

    @staticmethod
    def deviceEnablePeerAccess(peer):
        """They reach each other."""

    @staticmethod
    def deviceCanAccessPeer(device, peer):
        return 1

    @staticmethod
    def memcpyPeerAsync(to, to_device, source, source_device, size, stream):
        fake_cuda.call(
            "cuMemcpyAsync", ctypes.c_uint64(to), source, size, stream or fake_cuda.LEGACY_STREAM
        )


def _alloc(nbytes):
    return empty(nbytes, np.uint8)._memory


def _set_allocator(allocator=None):
    _allocator[0] = allocator


def _get_elapsed_time(first, second):
    return max(1e-6, (second.at - first.at) * 1e3)


cuda = types.SimpleNamespace(
    Stream=Stream,
    Event=Event,
    Device=Device,
    MemoryAsyncPool=MemoryAsyncPool,
    MemoryPool=MemoryPool,
    using_allocator=_using_allocator,
    runtime=_Runtime(),
    alloc=_alloc,
    set_allocator=_set_allocator,
    get_current_stream=_current,
    get_elapsed_time=_get_elapsed_time,
)


def get_default_memory_pool():
    return _default_pool
