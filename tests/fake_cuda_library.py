"""The library of ``fake_cuda.py``: built, loaded and called; the devices' contexts."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

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


def delay(function: str, microseconds: int) -> None:
    """Have calls of a function take so long in this process."""
    library().fake_cuda_delay(function.encode(), microseconds)


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
