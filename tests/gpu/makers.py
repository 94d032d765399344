"""Arrays of CuPy as tests/p2p/device makes them of the fake: with ``get``, ``set`` and parts."""

from __future__ import annotations

import math

import numpy as np


class CupyArray:
    """An array of CuPy's that shows itself by the interface alone."""

    def __init__(self, shape, dtype, device=0, *, pool=False, array=None):
        import cupy

        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.dtype = np.dtype(dtype)
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        self.device = device % cupy.cuda.runtime.getDeviceCount()
        if array is None:
            with cupy.cuda.Device(self.device):
                if pool:
                    cupy.cuda.set_allocator(cupy.cuda.MemoryAsyncPool().malloc)
                array = cupy.empty(self.shape, self.dtype)
                if pool:
                    cupy.cuda.set_allocator(cupy.get_default_memory_pool().malloc)
                    cupy.cuda.get_current_stream().synchronize()
        self.array = array

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__

    @property
    def ptr(self):
        return self.array.data.ptr

    def get(self):
        import cupy

        with cupy.cuda.Device(self.device):
            return cupy.asnumpy(self.array)

    def set(self, values):
        import cupy

        if not isinstance(values, np.ndarray):
            values = np.asarray(list(values) if isinstance(values, range) else values)
        whole = np.ascontiguousarray(np.broadcast_to(values.astype(self.dtype), self.shape))
        with cupy.cuda.Device(self.device):
            if self.nbytes:
                self.array.set(whole.reshape(self.shape))
            cupy.cuda.get_current_stream().synchronize()
        return self

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        part = self.array[rows]
        return CupyArray(part.shape, self.dtype, self.device, array=part)

    def free(self):
        self.array = None
