"""What the doctor finds wrong, each kind by itself; whole jobs of it are in tests/p2p and tests/faults."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from mpi4py import MPI

from mooncake_mpi import Intracomm
from mooncake_mpi.cli import doctor, tcp
from mooncake_mpi.errors import make_error


class Spoiled:
    """A communicator whose messages fail, or arrive changed."""

    def __init__(self, outcome):
        self._world = Intracomm(MPI.COMM_SELF)
        self._outcome = outcome

    def __getattr__(self, name):
        return getattr(self._world, name)

    def Sendrecv(self, out, dest, tag, into, source, tag_in):
        if isinstance(self._outcome, Exception):
            raise self._outcome
        into[:] = self._outcome


@pytest.mark.parametrize(
    ("outcome", "said"),
    [(make_error("ERR_OTHER", "the lane broke"), "the lane broke"), (7, "arrived changed")],
)
def test_a_message_that_fails_is_told_with_its_size_and_sender(outcome, said):
    lines = list(doctor._messages(Spoiled(outcome)))
    assert lines
    assert all("bytes from rank 0" in line and said in line for line in lines)


def test_an_operation_that_nobody_completed_is_told():
    request = Intracomm(MPI.COMM_SELF).Irecv(np.empty(8), 0, 5)
    lines = list(doctor._pending())
    request.Cancel()
    request.Wait()
    assert any(line.startswith("pending ") and "5" in line for line in lines), lines


@pytest.mark.parametrize("command", ["doctor", "info"])
def test_a_setting_that_is_misspelt_is_told_with_the_nearest(command):
    done = subprocess.run(
        [sys.executable, "-m", "mooncake_mpi", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"MOONCAKE_MPI_LANE": "tcp"},
    )
    (line,) = [line for line in done.stdout.splitlines() if "MOONCAKE_MPI_LANE " in line]
    assert "is MOONCAKE_MPI_LANES meant?" in line


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        (["127.0.1.1"], "resolves to 127.0.1.1, this host alone"),
        (["::1", "127.0.0.1"], "this host alone"),
        (["192.0.2.7", "127.0.1.1"], None),
        (None, "resolves to nothing"),
    ],
)
def test_a_host_name_that_means_this_host_alone_is_told(monkeypatch, addresses, said):
    def look_up(name, port):
        if addresses is None:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, 0, 0, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    lines = list(tcp.name_hints("node1"))
    assert len(lines) == (said is not None)
    assert all("node1" in line and said in line for line in lines)
