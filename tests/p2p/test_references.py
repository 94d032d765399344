"""Whatever refers to a communicator shares its matching space."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from subject import AGAINST_MPI, MPI, library, ring_of


def through_its_class(kind):
    """An object whose methods are called through ``kind``, as ``kind.Send(comm, ...)``."""

    class Caller:
        def __init__(self, comm):
            self.comm = comm

        def __getattr__(self, name):
            return lambda *args, **kwargs: getattr(kind, name)(self.comm, *args, **kwargs)

    return Caller


def made_by_c(handle):
    """What C code makes of a handle, with the function that it takes out of the module."""
    capsule = MPI.__pyx_capi__["PyMPIComm_New"]
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    kind = ctypes.c_int if MPI._sizeof(MPI.Comm) == 4 else ctypes.c_void_p
    new = ctypes.PYFUNCTYPE(ctypes.py_object, kind)(get(capsule, b"PyObject *(MPI_Comm)"))
    return new(handle)


REFERENCES = {
    "Comm()": MPI.Comm,
    "Intracomm()": MPI.Intracomm,
    "Comm.f2py": lambda comm: MPI.Comm.f2py(comm.py2f()),
    "Intracomm.f2py": lambda comm: MPI.Intracomm.f2py(comm.py2f()),
    "Comm.fromhandle": lambda comm: MPI.Comm.fromhandle(comm.handle),
    "Intracomm.fromhandle": lambda comm: MPI.Intracomm.fromhandle(comm.handle),
    "Comm.fromint": lambda comm: MPI.Comm.fromint(comm.toint()),
    "through Comm": through_its_class(MPI.Comm),
    "through Intracomm": through_its_class(MPI.Intracomm),
    "of the library, through Comm": lambda comm: through_its_class(MPI.Comm)(
        library.Intracomm(comm)
    ),
    "of the library, through Intracomm": lambda comm: through_its_class(MPI.Intracomm)(
        library.Intracomm(comm)
    ),
    "of the library's base class, through Comm": lambda comm: through_its_class(MPI.Comm)(
        library.Comm(comm)
    ),
    "of a class of the program's": type("Own", (MPI.Comm,), {}),
    "of a class of the program's that is an intracommunicator": type("Own", (MPI.Intracomm,), {}),
    "of C code": lambda comm: made_by_c(comm.handle),
    "copy of a copy": lambda comm: MPI.Comm(MPI.Comm(MPI.Intracomm(comm))),
}
EXCHANGES = {
    "Send": (lambda c, d: c.Send(np.full(4, 7.0), d, 3), lambda c, s: c.Recv(np.zeros(4), s, 3)),
    "send": (lambda c, d: c.send({"a": 1}, d, 3), lambda c, s: c.recv(source=s, tag=3)),
    "Isend": (
        lambda c, d: c.Isend(np.zeros(4), d, 3).Wait(),
        lambda c, s: c.Irecv(np.zeros(4), s, 3).Wait(),
    ),
    "isend": (lambda c, d: c.isend("x", d, 3).wait(), lambda c, s: c.irecv(source=s, tag=3).wait()),
    "Bsend": (lambda c, d: c.Bsend(b"1", d, 3), lambda c, s: c.Mprobe(s, 3).Recv(bytearray(1))),
    "Send_init": (
        lambda c, d: started(c.Send_init(b"1", d, 3)),
        lambda c, s: started(c.Recv_init(bytearray(1), s, 3)),
    ),
    "probed": (
        lambda c, d: c.send("x", d, 3),
        lambda c, s: (c.probe(s, 3), c.recv(source=s, tag=3)),
    ),
}


def started(request):
    """One use of a persistent request."""
    request.Start()
    request.Wait()
    request.Free()


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("name", REFERENCES)
def test_messages_meet_whichever_object_is_used(comm, attached, name, exchange):
    dest, source = ring_of(comm)
    reference = REFERENCES[name](comm)
    send, receive = EXCHANGES[exchange]
    for sender, receiver in ((reference, comm), (comm, reference), (reference, reference)):
        if comm.size == 1 and exchange in ("Send", "send", "isend", "Isend", "Send_init", "probed"):
            request = comm.Irecv(
                bytearray(1), source, 4
            )  # a send to oneself may wait for its receive
            request.Cancel()
            request.Wait()
        send(sender, dest)
        receive(receiver, source)


@pytest.mark.parametrize("name", [name for name in REFERENCES if "through" not in name])
def test_a_reference_is_the_same_communicator(comm, name):
    reference = REFERENCES[name](comm)
    assert reference == comm
    assert isinstance(reference, MPI.Comm)
    assert isinstance(reference, library.Comm)
    assert (reference.rank, reference.size, reference.handle) == (comm.rank, comm.size, comm.handle)


def test_callbacks_are_given_the_same_communicator(comm):
    seen = []

    def handle(whose, code):
        del code
        whose.send("from the handler", MPI.PROC_NULL)
        seen.append(type(whose))

    def delete(whose, keyval, value):
        del keyval
        seen.append((type(whose), whose.rank, value))

    handler = MPI.Comm.Create_errhandler(handle)
    keyval = MPI.Comm.Create_keyval(delete_fn=delete)
    duplicate = comm.Dup()
    duplicate.Set_errhandler(handler)
    duplicate.Set_attr(keyval, "value")
    with pytest.raises(MPI.Exception):
        duplicate.send(1, 1_000)
    duplicate.Delete_attr(keyval)
    assert seen == [MPI.Intracomm, (MPI.Intracomm, comm.rank, "value")]
    duplicate.Set_errhandler(MPI.ERRORS_RETURN)
    handler.Free()
    MPI.Comm.Free_keyval(keyval)
    duplicate.Free()


def test_methods_of_a_program_s_own_class_can_be_replaced(comm):
    class Own(MPI.Intracomm):
        pass

    Own.Send = lambda self, buf, dest, tag=0: (
        self.sent.append((dest, tag)) or MPI.Intracomm.Send(self, buf, dest, tag)
    )
    Own.sent = []
    own = Own(comm)
    dest, source = ring_of(comm)
    request = comm.Irecv(bytearray(3), source, 4)
    own.Send(b"abc", dest, 4)
    request.Wait()
    assert Own.sent == [(dest, 4)]


def test_a_reference_to_a_freed_communicator_is_an_err_comm():
    comm = MPI.COMM_WORLD.Dup()
    reference = MPI.Comm.fromhandle(comm.handle) if not AGAINST_MPI else MPI.Comm()
    comm.Free()
    with pytest.raises(MPI.Exception) as raised:
        reference.send(1, 0)
    assert raised.value.Get_error_class() == MPI.ERR_COMM


def test_null_communicators_stay_null():
    for null in (
        MPI.Comm(),
        MPI.Intracomm(),
        MPI.Comm(MPI.COMM_NULL),
        MPI.Intracomm(MPI.COMM_NULL),
    ):
        assert not null
        assert null == MPI.COMM_NULL
        assert isinstance(null, MPI.Comm)
    assert MPI.Comm.f2py(MPI.COMM_NULL.py2f()) == MPI.COMM_NULL


CHILDREN = {
    "Intracomm": lambda comm: library.Intracomm(comm).Dup(),
    "Cartcomm": lambda comm: library.Intracomm(comm).Create_cart([comm.size]),
    "Graphcomm": lambda comm: library.Intracomm(comm).Create_graph(
        list(range(1, comm.size + 1)), list(range(comm.size))
    ),
    "Distgraphcomm": lambda comm: library.Intracomm(comm).Create_dist_graph_adjacent([], []),
}


@pytest.mark.parametrize("name", CHILDREN)
def test_a_communicator_that_something_else_made_is_an_instance_of_its_class(comm, name):
    child = CHILDREN[name](comm)
    assert isinstance(child, getattr(MPI, name))
    assert issubclass(type(child), getattr(MPI, name))
    assert isinstance(child, MPI.Comm)
    assert isinstance(child, MPI.Intracomm)
    for other in set(CHILDREN) - {name, "Intracomm"}:
        assert not isinstance(child, getattr(MPI, other))
    assert not isinstance(child, type("Own", (MPI.Intracomm,), {}))
    # Its messages are the library's, through whatever class.
    dest, source = ring_of(comm)
    request = child.Irecv(bytearray(3), source)
    MPI.Comm.Send(child, b"abc", dest)
    request.Wait()
    child.Free()


@pytest.mark.mpi(min_size=2)
def test_a_class_of_the_programs_takes_a_communicator_that_the_engine_does_not_carry(comm):
    class Own(MPI.Comm):
        sent = None

        def send(self, obj, dest, tag=0):
            self.sent = obj
            super().send(obj, dest, tag)

        def recv(self, *args):
            return MPI.Comm.recv(self, *args)

    plain = library.Intracomm(comm).Dup()
    own = Own(plain)
    assert isinstance(own, Own)
    assert type(own).__qualname__ == Own.__qualname__
    dest, source = ring_of(comm)
    receive = own.irecv(None, source, 1)
    own.send(comm.rank, dest, 1)
    assert own.sent == comm.rank
    assert receive.wait() == source
    request = own.Isend(np.full(4, 7.0), dest, 2)
    into = np.zeros(4)
    own.Recv(into, source, 2)
    MPI.Request.Waitall([request])
    assert (into == 7).all()
    # The library's own object of it is the other end as well as any.
    request = plain.isend("plain", dest, 3)
    assert own.recv(None, source, 3) == "plain"
    request.wait()
    # What carries a communicator of its own does so still.
    assert Own(comm).sendrecv(comm.rank, dest, 4, None, source, 4) == source
    duplicate = own.Dup()
    assert isinstance(duplicate, Own)
    assert duplicate.sendrecv(comm.rank, dest, 5, None, source, 5) == source
    duplicate.Free()
    plain.Free()


def test_an_intercommunicator_is_an_instance_of_its_class_and_merges(comm):
    if comm.size < 2:
        return
    half = comm.Split(comm.rank % 2, comm.rank)
    inter = half.Create_intercomm(0, comm, 1 - comm.rank % 2, 5)
    assert isinstance(inter, MPI.Intercomm)
    assert isinstance(inter, MPI.Comm)
    assert not isinstance(inter, MPI.Intracomm)
    merged = inter.Merge(comm.rank % 2 == 1)
    assert isinstance(merged, MPI.Intracomm)
    dest, source = ring_of(merged)
    request = merged.isend("around", dest, 1)
    assert MPI.Comm(merged).recv(source=source, tag=1) == "around"
    request.wait()
    inter_again = MPI.Comm(inter)
    assert inter_again == inter
    for each in (merged, inter, half):
        each.Free()


def test_a_communicator_made_of_a_session_s_group_is_one_space():
    try:
        session = MPI.Session.Init()
    except NotImplementedError:
        return
    group = session.Create_group("mpi://WORLD")
    comm = MPI.Intracomm.Create_from_group(group, "org.mooncake_mpi.test")
    group.Free()
    assert isinstance(comm, MPI.Intracomm)
    dest, source = ring_of(comm)
    for sender, receiver in ((comm, MPI.Comm.fromhandle(comm.handle)), (MPI.Comm(comm), comm)):
        request = sender.isend("x" * 10, dest, 2)
        assert receiver.recv(source=source, tag=2) == "x" * 10
        request.wait()
    comm.Free()
    session.Finalize()


def test_freeing_through_a_class_makes_the_very_object_null(comm):
    child = library.Intracomm(comm).Dup()
    MPI.Intracomm(child)  # the engine carries it
    MPI.Comm.Free(child)
    assert child == library.COMM_NULL
