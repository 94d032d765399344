"""What has to work of objects with arrays of GPUs: part of essential.py."""

from __future__ import annotations

import os

import numpy as np
from exchanges import content, expect, filled, gpu, ring_of
from harness import RANK, LeftOut, check
from payload import is_pattern

import mooncake_mpi

MIB = 1 << 20


@check
def objects_with_arrays(comm):
    right, left_rank = ring_of(comm)
    for size in (0, 5000, 3 * MIB):
        array = filled(size)
        # a copy is sent, so the array may be changed
        request = comm.isend({"x": array, "again": [array], "rank": RANK}, right, 1)
        gpu.put(array, np.zeros(size, "u1"))
        got = comm.recv(source=left_rank, tag=1)
        request.wait()
        assert got["rank"] == left_rank
        assert got["again"][0] is got["x"]
        assert type(got["x"]) is type(array)
        assert is_pattern(np.asarray(content(got["x"])), left_rank), size
        got = comm.sendrecv([filled(size), "text"], right, 1, None, left_rank, 1)
        assert type(got[0]) is type(array)
        assert is_pattern(np.asarray(content(got[0])), left_rank), size


@check
def objects_with_arrays_do_not_come_to_the_host(comm):
    if gpu.is_stand_in and gpu.name == "torch":
        raise LeftOut("torch has no GPU here")
    if "expandable_segments" in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""):
        raise LeftOut("memory that no other process can open")
    right, left_rank = ring_of(comm)
    array = filled(3 * MIB)

    def sent():
        return {
            path: traffic.messages
            for path, traffic in mooncake_mpi.transfers(comm)[right].sent.items()
            if path in {"push", "pull", "kernel", "staged"}
        }

    before = sent()
    got = comm.sendrecv(array, right, 1, None, left_rank, 1)
    expect(got, left_rank, "in an object")
    after = sent()
    assert sum(after.values()) == sum(before.values()) + 1, (before, after)
    assert after.get("staged") == before.get("staged"), mooncake_mpi.transfers(comm)[right].troubles
