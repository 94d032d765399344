"""The mirror of mpi4py's module has all its names, and its classes all their methods."""

from __future__ import annotations

import pytest
from subject import MPI, library

pytestmark = pytest.mark.ours

# An operation of the engine has no MPI handle, and only partitioned requests have partitions.
WITHOUT_MEANING = {"f2py", "py2f", "fromhandle", "fromint", "toint", "handle"}
WITHOUT_MEANING |= {"Pready", "Pready_range", "Pready_list", "Parrived"}
CLASSES = ["Request", "Prequest", "Message", "Intracomm", "Cartcomm", "Graphcomm", "Distgraphcomm"]
POINT_TO_POINT = [
    "Send", "Isend", "Ssend", "Issend", "Rsend", "Irsend", "Bsend", "Ibsend", "Recv", "Irecv",
    "Sendrecv", "Sendrecv_replace", "Isendrecv", "Isendrecv_replace", "Send_init", "Ssend_init",
    "Rsend_init", "Bsend_init", "Recv_init", "Psend_init", "Precv_init", "Probe", "Iprobe", "Mprobe",
    "Improbe", "send", "isend", "ssend", "issend", "bsend", "ibsend", "recv", "irecv", "sendrecv",
    "probe", "iprobe", "mprobe", "improbe",
]  # fmt: skip


def test_every_name_of_the_module_is_there(comm):
    missing = [name for name in dir(library) if not hasattr(MPI, name)]
    assert not missing


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_attribute_of_a_class_is_there(comm, name):
    theirs, ours = getattr(library, name), getattr(MPI, name)
    names = {item for item in dir(theirs) if not item.startswith("_")} - WITHOUT_MEANING
    assert not [item for item in sorted(names) if not hasattr(ours, item)]


@pytest.mark.parametrize("name", POINT_TO_POINT)
def test_every_point_to_point_method_is_ours_on_every_communicator_class(comm, name):
    for class_name in ("Intracomm", "Cartcomm", "Graphcomm", "Distgraphcomm"):
        assert getattr(getattr(MPI, class_name), name) is not getattr(library.Comm, name)


def test_the_null_handles_are_ours_where_their_class_is(comm):
    assert isinstance(MPI.REQUEST_NULL, MPI.Request)
    assert isinstance(MPI.MESSAGE_NULL, MPI.Message)
    assert isinstance(MPI.MESSAGE_NO_PROC, MPI.Message)
    assert isinstance(MPI.COMM_WORLD, MPI.Intracomm)
    assert isinstance(MPI.COMM_SELF, library.Intracomm)
    assert MPI.COMM_WORLD == library.COMM_WORLD
