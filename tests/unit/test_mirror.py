"""The mirror of ``mpi4py.MPI`` has all of its names."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from mpi4py import MPI as library  # noqa: N811

import mooncake_mpi
from mooncake_mpi import MPI
from mooncake_mpi.errors import FAILURE_CLASSES

# What makes a module a module.
OWN = {"__builtins__", "__cached__", "__doc__", "__loader__", "__name__", "__package__", "__spec__"}

REPLACED = {
    "Alloc_mem",
    "COMM_SELF",
    "COMM_WORLD",
    "Cartcomm",
    "Comm",
    "Detach_buffer",
    "Distgraphcomm",
    "Flush_buffer",
    "Free_mem",
    "Graphcomm",
    "Init",
    "Init_thread",
    "Intracomm",
    "Message",
    "Prequest",
    "Request",
    "Status",
    "__pyx_capi__",
    "_addressof",
    "_handleof",
    "_sizeof",
}


def test_every_name_is_here_and_only_messages_are_replaced():
    names = set(vars(library)) - OWN
    assert names <= set(vars(MPI))
    assert names <= set(dir(MPI))
    other = {name for name in names if getattr(MPI, name) is not getattr(library, name)}
    # Older libraries lack the classes of failures, and have them added.
    assert other - set(FAILURE_CLASSES) == REPLACED


def test_the_worlds_are_communicators_of_both():
    for comm in (MPI.COMM_WORLD, MPI.COMM_SELF):
        assert isinstance(comm, MPI.Intracomm)
        assert isinstance(comm, library.Intracomm)
    assert MPI.COMM_WORLD == library.COMM_WORLD
    assert MPI.COMM_WORLD is MPI.COMM_WORLD


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NO_SUCH_NAME"):
        _ = MPI.NO_SUCH_NAME
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = mooncake_mpi.no_such_name


def test_the_package_gives_its_names_when_asked():
    assert mooncake_mpi.Intracomm is MPI.Intracomm
    assert mooncake_mpi.MPI is MPI
    assert issubclass(mooncake_mpi.Error, library.Exception)
    assert mooncake_mpi.config.load is not None
    assert mooncake_mpi.shared_arrays.usage()
    assert mooncake_mpi.__version__
    assert set(mooncake_mpi.__all__) <= set(dir(mooncake_mpi))


def test_sizes_and_numbers_of_handles_are_the_library_s():
    request = MPI.COMM_SELF.Irecv(bytearray(1), 0, 77)
    assert MPI._sizeof(request) == MPI._sizeof(MPI.Request) == library._sizeof(library.Request)
    assert MPI._handleof(MPI.Request()) == library.REQUEST_NULL.handle
    assert MPI._addressof(MPI.COMM_WORLD) == library._addressof(MPI.COMM_WORLD)
    assert MPI._sizeof(MPI.MESSAGE_NULL) == library._sizeof(library.Message)
    assert MPI._sizeof(MPI.INT) == library._sizeof(MPI.INT)
    assert MPI._handleof(MPI.INT) == MPI.INT.handle
    request.Cancel()
    request.Wait()


def test_buffered_messages_are_sent_when_the_buffer_comes_back():
    buffer = MPI.Alloc_mem(1 << 20)
    MPI.Attach_buffer(buffer)
    into = bytearray(100_000)
    request = MPI.COMM_SELF.Irecv(into, 0, 78)
    MPI.COMM_SELF.Bsend(b"x" * 100_000, 0, 78)
    assert MPI.Detach_buffer() is not None
    assert request.Test()
    assert into == b"x" * 100_000
    MPI.Free_mem(buffer)


def test_a_program_that_initialises_mpi_itself_gets_accelerated_worlds():
    program = """
import mpi4py
mpi4py.rc.initialize = False
from mooncake_mpi import MPI
assert not MPI.Is_initialized()
MPI.Init()
assert isinstance(MPI.COMM_WORLD, MPI.Intracomm)
assert MPI.COMM_WORLD.sendrecv("self", 0, source=0) == "self"
MPI.Finalize()
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "done\n"


def test_where_threads_may_not_call_mpi_mpi4py_refuses_requests_of_the_engine():
    program = """
import mpi4py
mpi4py.rc.thread_level = "funneled"
import mooncake_mpi
from mpi4py import MPI
comm = mooncake_mpi.Intracomm(MPI.COMM_SELF)
request = comm.irecv(source=0)
try:
    MPI.Request.Waitall([request])
except TypeError as error:
    print(error)
comm.send("done", 0)
print(request.wait())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "Cannot convert Request to mpi4py.MPI.Request\ndone\n"


def test_importing_the_package_starts_nothing():
    program = "import sys, mooncake_mpi.config; print([n for n in sys.modules if 'MPI' in n])"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_status_and_datatype_pickle_as_mpi4py_s():
    status = MPI.Status()
    status.source = 3
    assert pickle.loads(pickle.dumps(status)) == status  # noqa: S301
    assert pickle.loads(pickle.dumps(MPI.INT)) is MPI.INT  # noqa: S301
