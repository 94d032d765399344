"""Arrays of a GPU by the library that makes them, with the few things that the checks do to them.

Every rank uses one GPU: of its number, or they share what there is.
"""

from __future__ import annotations

import contextlib
import os

import numpy as np
from harness import RANK, LeftOut

SPIN = r"""
extern "C" __global__ void spin(unsigned long long nanoseconds) {
  unsigned long long start, now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
  do {
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while (now - start < nanoseconds);
}
"""


NOTHING = 'extern "C" __global__ void nothing() {}'


class Cupy:
    name = "cupy"

    def __init__(self):
        import cupy

        self.library = self.cupy = cupy
        self.count = cupy.cuda.runtime.getDeviceCount()
        self.device = RANK % self.count
        self.use()
        self.is_stand_in = cupy.__version__ == "stand-in"
        self._spin = None

    def use(self):
        """Have the thread work on it."""
        self.cupy.cuda.Device(self.device).use()

    def describe(self):
        name = self.cupy.cuda.runtime.getDeviceProperties(self.device)["name"]
        return f"cupy {self.cupy.__version__}, GPU {self.device} of {self.count}: {name.decode()}"

    def empty(self, size, dtype="u1"):
        return self.cupy.empty(size, np.dtype(dtype))

    def put(self, array, values):
        """Fill it, and wait: other streams may use it at once."""
        array.set(np.ascontiguousarray(values))
        self.cupy.cuda.get_current_stream().synchronize()

    def get(self, array):
        return self.cupy.asnumpy(array)

    def copy(self, into, source):
        """Put a copy into the current stream."""
        into[...] = source

    def stream(self):
        return self.cupy.cuda.Stream(non_blocking=True)

    def using(self, stream):
        return stream

    def is_idle(self, stream):
        return stream.done

    def captured(self, stream, function):
        """What launches the graph of what the function puts into the stream, in that stream."""
        with stream:
            stream.begin_capture()
            try:
                function()
            finally:
                graph = stream.end_capture()
        return lambda: graph.launch(stream)

    def new_kernel(self):
        """What launches a kernel that was compiled and not launched before."""
        try:
            kernel = self.cupy.RawKernel(NOTHING, "nothing")
            kernel.compile()
        except Exception as error:
            raise LeftOut(f"RawKernel: {error!r}") from error
        return lambda: kernel((1,), (1,), ())

    def delay(self, seconds):
        """Put a kernel into the current stream that takes so long."""
        if self._spin is None:
            self._spin = self._new_spin()
        self._spin(seconds)

    def _new_spin(self):
        kernel = self.cupy.RawKernel(SPIN, "spin")

        def spin(seconds):
            kernel((1,), (1,), (np.uint64(int(seconds * 1e9)),))

        try:
            spin(0)
        except Exception as error:  # no compiler: torch has such a kernel
            print(f"  RawKernel: {error!r}", flush=True)
            return self._torch_spin
        return spin

    def _torch_spin(self, seconds):
        import torch

        stream = torch.cuda.ExternalStream(self.cupy.cuda.get_current_stream().ptr)
        with torch.cuda.stream(stream):
            torch.cuda._sleep(int(seconds * 1.9e9))

    def free_all(self):
        self.cupy.get_default_memory_pool().free_all_blocks()

    @contextlib.contextmanager
    def straight(self):
        """Memory comes from the driver and goes back to it."""
        self.cupy.cuda.set_allocator(None)
        try:
            yield
        finally:
            self.cupy.cuda.set_allocator(self.cupy.get_default_memory_pool().malloc)

    @contextlib.contextmanager
    def pooled(self):
        """Memory comes from a pool of the driver, which no other process can open."""
        pool = self.cupy.cuda.MemoryAsyncPool()
        self.cupy.cuda.set_allocator(pool.malloc)
        try:
            yield
        finally:
            self.cupy.cuda.set_allocator(self.cupy.get_default_memory_pool().malloc)


class Torch:
    name = "torch"

    def __init__(self):
        import torch

        self.library = self.torch = torch
        self.is_stand_in = not torch.cuda.is_available()
        if self.is_stand_in and os.environ.get("MOONCAKE_MPI_GPU_STAND_IN") != "1":
            raise RuntimeError("torch finds no GPU")
        self.count = 1 if self.is_stand_in else torch.cuda.device_count()
        self.device = RANK % self.count
        self.place = "cpu" if self.is_stand_in else f"cuda:{self.device}"
        if not self.is_stand_in:
            torch.cuda.set_device(self.device)

    def describe(self):
        where = "the host" if self.is_stand_in else self.torch.cuda.get_device_name(self.device)
        return f"torch {self.torch.__version__}, GPU {self.device} of {self.count}: {where}"

    def empty(self, size, dtype="u1"):
        known = {"u1": self.torch.uint8, "f4": self.torch.float32, "f8": self.torch.float64}
        return self.torch.empty(size, dtype=known[dtype], device=self.place)

    def put(self, array, values):
        array.copy_(self.torch.from_numpy(np.array(values)))
        if not self.is_stand_in:
            self.torch.cuda.current_stream().synchronize()

    def get(self, array):
        return array.cpu().numpy()

    def copy(self, into, source):
        into.copy_(source)

    def stream(self):
        if self.is_stand_in:
            raise LeftOut("torch has no GPU here")
        return self.torch.cuda.Stream()

    def using(self, stream):
        return self.torch.cuda.stream(stream)

    def is_idle(self, stream):
        return stream.query()

    def captured(self, stream, function):
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph, stream=stream):
            function()

        def launch():
            with self.torch.cuda.stream(stream):
                graph.replay()

        return launch

    def new_kernel(self):
        raise LeftOut("of CuPy's arrays")

    def delay(self, seconds):
        self.torch.cuda._sleep(int(seconds * 1.9e9))  # cycles

    def free_all(self):
        if not self.is_stand_in:
            self.torch.cuda.empty_cache()

    @contextlib.contextmanager
    def straight(self):
        yield  # the checks give back what is free after each array

    @contextlib.contextmanager
    def pooled(self):
        raise LeftOut("torch's pool of the driver is chosen before it starts")
        yield


def chosen():
    """What MOONCAKE_MPI_GPU_ARRAYS names."""
    return {"cupy": Cupy, "torch": Torch}[os.environ.get("MOONCAKE_MPI_GPU_ARRAYS", "cupy")]()
