"""What ``info`` and ``doctor`` say where something is really in the way of RDMA."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from barrier import quiet_barrier
from hosts import RANK, change_rail, device_names, end_of
from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.cli import rdma

pytestmark = [pytest.mark.lab, pytest.mark.mpi(min_size=2)]
PATIENCE = 60  # seconds
OF_THE_JOB = ("OMPI_", "PMIX_", "PRTE_", "PMI_", "HYDRA_", "HYDI_", "MPIR_", "MOONCAKE_MPI_")
RAIL = 1
DEVICE = device_names(RANK)[RAIL]


def says(tool, *prefix, **settings):
    """The lines of a tool that a user starts without mpirun, with one device of this rank."""
    environment = {
        name: text for name, text in os.environ.items() if not name.startswith(OF_THE_JOB)
    }
    environment |= {"MOONCAKE_MPI_VERBS_DEVICES": DEVICE, **settings}
    command = [*prefix, sys.executable, "-m", "mooncake_mpi", tool]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def without(capability):
    """The start of a command that root runs as users do, who do not have a capability."""
    return ("setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}")


def has_line(lines, *words):
    return any(all(word in line for word in words) for line in lines)


def without_gid():
    lines = says("info", MOONCAKE_MPI_VERBS_GID_INDEX="77")
    assert has_line(lines, f"RDMA port {DEVICE}:1", "active", "no GID at index 77"), lines
    assert has_line(lines, "verbs lane", "off:", "no GID at index 77"), lines


def without_memory():
    lines = says("doctor", "prlimit", "--memlock=16384", *without("ipc_lock"))
    assert has_line(lines, "verbs, is off", DEVICE, "memlock limit"), lines
    assert has_line(lines, "only 16 KiB of memory may be locked"), lines
    assert not has_line(lines, "FAILED"), lines


def test_a_missing_gid_and_too_little_memory_are_named_and_the_lane_is_off():
    """One on each rank, at the same time, as programs start slowly in the lab."""
    (without_gid if RANK == 0 else without_memory)()


def test_devices_that_a_user_may_not_open_are_named():
    quiet_barrier()
    if RANK == 0:
        nodes = sorted(Path("/dev/infiniband").glob("uverbs*"))
        modes = [node.stat().st_mode & 0o777 for node in nodes]
        try:
            for node in nodes:
                node.chmod(0)
            lines = says("doctor", *without("dac_override"))
        finally:
            for node, mode in zip(nodes, modes, strict=True):
                node.chmod(mode)
            quiet_barrier()
        assert has_line(lines, "verbs, is off"), lines
        assert has_line(lines, f"no permission on {nodes[0]}"), lines
    else:
        quiet_barrier()


def test_ports_of_different_mtu_are_named(comm):
    setting = Path(f"/sys/class/net/rail{RAIL}{end_of(1)}/mtu")
    mtu = setting.read_text()
    quiet_barrier()
    try:
        if RANK == 1:
            setting.write_text("1500")
        quiet_barrier()
        lines = list(rdma.hints(comm))
    finally:
        quiet_barrier()
        if RANK == 1:
            setting.write_text(mtu)
    if RANK == 0:
        told = f"packets take the smaller: 4096, but 1024 at rxe{RAIL}{end_of(1)}:1 of rank 1"
        assert has_line(lines, "the MTU of RDMA ports differs", told), lines


def anywhere(value):
    """Whether it is true on any rank."""
    return MPI.COMM_WORLD.allreduce(bool(value), MPI.LOR)


def test_a_port_that_is_up_and_does_not_reach_a_rank_is_named(comm):
    other = 1 - RANK
    communicator = comm._checked_communicator()
    troubles = functools.partial(_native.path_troubles, communicator, other)
    end = time.monotonic() + PATIENCE
    try:
        if RANK == 0:
            change_rail("netem", RAIL, "loss", "100%")
        quiet_barrier()
        while anywhere(not troubles()) and not anywhere(time.monotonic() > end):
            comm.sendrecv(np.zeros(1 << 20, "u1"), other, source=other)  # over both rails
        lines = list(rdma.path_hints(communicator, [other]))
    finally:
        quiet_barrier()
        if RANK == 0:
            change_rail("netem", RAIL, "off")
    assert has_line(lines, f"an RDMA port does not reach rank {other}: {DEVICE}:1"), lines
    end = time.monotonic() + PATIENCE
    while anywhere(troubles()) and not anywhere(time.monotonic() > end):
        time.sleep(0.2)
    assert not troubles()
