"""What a typed program of a user's may rely on: checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from mpi4py import MPI as library  # noqa: N811
from typing_extensions import assert_type

import mooncake_mpi
from mooncake_mpi import MPI

comm = MPI.COMM_WORLD
assert_type(comm, MPI.Intracomm)
assert_type(MPI.COMM_SELF, MPI.Intracomm)
assert_type(comm.Dup(), MPI.Intracomm)
assert_type(comm.Split(0, 1), MPI.Intracomm)
assert_type(comm.Split_type(MPI.COMM_TYPE_SHARED), MPI.Intracomm)
assert_type(comm.Shrink(), MPI.Intracomm)
assert_type(comm.Create_cart([2]), MPI.Cartcomm)
assert_type(comm.rank, int)

array = np.zeros(3)
comm.Send(array, dest=1, tag=3)
comm.Send([array, 3, MPI.DOUBLE], dest=1)
status = MPI.Status()
comm.Recv(array, source=MPI.ANY_SOURCE, tag=MPI.ANY_TAG, status=status)
assert_type(status.Get_source(), int)
assert_type(status.Get_count(MPI.DOUBLE), int)
comm.Sendrecv(array, 1, recvbuf=array, source=1)
assert_type(comm.Isend(array, 1), MPI.Request)
assert_type(comm.Irecv(array), MPI.Request)
assert_type(comm.isend({"any": "object"}, dest=1), MPI.Request)
assert_type(comm.irecv(), MPI.Request)
assert_type(comm.Send_init(array, 1), MPI.Prequest)
assert_type(comm.Recv_init(array, 1), MPI.Prequest)
assert_type(comm.Psend_init(array, 2, 1), MPI.Prequest)
assert_type(comm.Mprobe(), MPI.Message)
assert_type(comm.Improbe(), "MPI.Message | None")
assert_type(comm.Iprobe(), bool)
assert_type(comm.recv(), Any)

request: MPI.Request = comm.Isend(array, 1)
requests: list[MPI.Request] = [request, comm.isend(1, 1)]
assert_type(request.Test(), bool)
assert_type(request.Wait(), Literal[True])
assert_type(MPI.Request.Waitany(requests), int)
assert_type(MPI.Request.waitall(requests), "list[Any]")
MPI.Request.Waitall([*requests, comm.Ibarrier()])
MPI.Prequest.Startall([comm.Send_init(array, 1)])

assert_type(comm.allreduce(3, MPI.SUM), Any)
comm.Allreduce(MPI.IN_PLACE, array)
assert_type(MPI.DOUBLE.Get_size(), int)

wrapped = mooncake_mpi.Intracomm(library.COMM_WORLD)
assert_type(wrapped, mooncake_mpi.Intracomm)
assert_type(wrapped.Dup(), mooncake_mpi.Intracomm)


def takes_any_communicator(given: library.Intracomm) -> None:
    """A library's function, which knows mpi4py alone."""
    given.Barrier()


takes_any_communicator(comm)
takes_any_communicator(wrapped)

try:
    comm.Recv(array, source=1)
except MPI.Exception as error:
    assert_type(error.Get_error_class(), int)

made = mooncake_mpi.empty((3, 4), "f4")
made += 1
for peer in mooncake_mpi.transfers(comm):
    assert_type(peer.lane, str)
with mooncake_mpi.numpy_allocator():
    field = np.zeros(10)
