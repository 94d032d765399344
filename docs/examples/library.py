"""A library that is given a communicator by a program which may know nothing of mooncake_mpi.

::

    mpirun -n 2 python docs/examples/library.py
"""

from __future__ import annotations

from typing import Any

from mpi4py import MPI  # the program's, as it likes

import mooncake_mpi


class Mailbox:
    """Objects for other ranks, by name of a topic; nothing here meets the program's messages.

    Args:
        comm: the program's communicator; creating a mailbox is collective over it.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        # Wrapping shares the matching space of `comm`; the duplicate has one of its own.
        self._comm = mooncake_mpi.Intracomm(comm).Dup()
        self._pending: list[Any] = []

    def post(self, rank: int, topic: str, content: object) -> None:
        """Send without waiting."""
        self._pending.append(self._comm.isend((topic, content), dest=rank))

    def collect(self, count: int) -> dict[str, object]:
        """The next ``count`` objects, from anybody."""
        return dict(self._comm.recv() for _ in range(count))

    def close(self) -> None:
        """Wait until everything was sent; collective."""
        MPI.Request.Waitall(self._pending)  # mpi4py's own function: they are its requests, too
        self._comm.Free()


def main() -> None:
    """The program: its own messages have the same tags, and are not disturbed."""
    comm = MPI.COMM_WORLD
    right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    mailbox = Mailbox(comm)
    request = comm.isend("the program's", dest=right)
    mailbox.post(right, "greeting", f"from rank {comm.rank}")
    mail = mailbox.collect(1)
    if mail != {"greeting": f"from rank {left}"} or comm.recv(source=left) != "the program's":
        raise ValueError(mail)
    request.wait()
    mailbox.close()
    if comm.rank == 0:
        print(f"mail arrived at {comm.size} ranks")


if __name__ == "__main__":
    main()
