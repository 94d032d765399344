"""The libcuda of the tests shows devices and keeps arrays as the real one does.

Each program has a process of its own: a driver that was used stays in its process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import fake_cuda
import pytest

TESTS = Path(fake_cuda.__file__).parent
NOT_THE_MACHINES = ("CUDA_", "MOONCAKE_MPI_FAKE_CUDA_")


@pytest.fixture(scope="module", autouse=True)
def built():
    return fake_cuda.path()


def run(program, **environment):
    """What a program prints."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(NOT_THE_MACHINES)}
    done = subprocess.run(
        [sys.executable, "-c", "from fake_cuda import *\n" + textwrap.dedent(program)],
        env={**kept, "PYTHONPATH": str(TESTS), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


NAMES = """
    import ctypes
    text = ctypes.create_string_buffer(64)
    uuid = (ctypes.c_ubyte * 16)()
    for device in range(device_count()):
        call("cuDeviceGetName", text, 64, device)
        call("cuDeviceGetUuid", uuid, device)
        print(text.value.decode()[-1], bytes(uuid).hex(), sep=":")
"""


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        (None, "0123"),
        ("2,0", "20"),
        ("1,7,0", "1"),
        ("GPU-66616b02,GPU-66616b01", "21"),
    ],
)
def test_visible_devices_are_those_of_the_environment(visible, devices):
    every = run(NAMES, MOONCAKE_MPI_FAKE_CUDA_DEVICES="4")
    chosen = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    shown = run(NAMES, MOONCAKE_MPI_FAKE_CUDA_DEVICES="4", **chosen)
    assert shown == [every[int(device)] for device in devices]


@pytest.mark.parametrize("visible", ["", "-1", "0,0", "GPU-66616b"])
def test_no_visible_device_is_an_error_of_cuinit(visible):
    program = "import ctypes; print(ctypes.CDLL(str(path())).cuInit(0))"
    assert run(program, CUDA_VISIBLE_DEVICES=visible) == ["100"]


def test_arrays_are_seen_and_filled():
    assert run("""
        import numpy as np
        import fake_cuda
        a = array((4, 8), "f4", 1).set(np.arange(32).reshape(4, 8))
        b = array((2, 8), "f4")
        stream, event = Stream(), Event()
        stream.hold()
        copy_async(b, a[1:3], stream)
        event.record(stream)
        assert stream.pending == 2 and not event.query()
        stream.let_go()
        event.synchronize()
        assert (b.get() == a.get()[1:3]).all()
        shown = a[1:].__cuda_array_interface__
        assert shown["data"] == (a.ptr + 32, False) and shown["shape"] == (3, 8)
        a.free()
        b.free()
        print(fake_cuda.library().fake_cuda_allocations())
    """) == ["0"]


def test_a_fault_of_the_environment_is_every_processes():
    program = """
        for size in (1, 1, 1):
            try:
                array(size, "u1")
                print("made")
            except CudaError as error:
                print(error.code)
    """
    fault = {"MOONCAKE_MPI_FAKE_CUDA_FAIL": "cuMemAlloc:2:1:1"}
    assert run(program, **fault) == ["made", "2", "made"]
