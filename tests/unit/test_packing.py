"""Scattered datatypes are packed and unpacked by the MPI library."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from mpi4py import MPI

from mooncake_mpi.buffers import packing
from mooncake_mpi.buffers.bufferspec import resolve


def receive(spec, data):
    """What a receive of ``data`` does to ``spec``."""
    address, nbytes, _keepalive, finish, _ = resolve(spec, writable=True, rank=0)
    assert len(data) <= nbytes
    ctypes.memmove(address, data, len(data))
    if finish is not None:
        finish(len(data))


@pytest.fixture
def every_second():
    datatype = MPI.INT.Create_vector(4, 1, 2).Commit()
    yield datatype
    datatype.Free()


def test_a_message_fills_the_elements_and_nothing_between(every_second):
    into = np.full(8, -1, "i")
    receive([into, 1, every_second], np.arange(4, dtype="i").tobytes())
    assert into.tolist() == [0, -1, 1, -1, 2, -1, 3, -1]


@pytest.mark.parametrize("received", range(5))
def test_a_shorter_message_leaves_the_rest_untouched(every_second, received):
    into = np.full(8, -1, "i")
    receive([into, 1, every_second], np.arange(received, dtype="i").tobytes())
    assert into[::2].tolist() == [*range(received), *[-1] * (4 - received)]
    assert (into[1::2] == -1).all()


def test_a_datatype_may_be_freed_while_its_message_is_pending():
    datatype = MPI.INT.Create_vector(2, 1, 2).Commit()
    into = np.zeros(4, "i")
    address, nbytes, keepalive, finish, _ = resolve([into, 1, datatype], writable=True, rank=0)
    datatype.Free()
    ctypes.memmove(address, np.array([5, 6], "i").tobytes(), nbytes)
    finish(nbytes)
    del keepalive
    assert into.tolist() == [5, 0, 6, 0]


def test_a_persistent_send_packs_again_what_changed(every_second):
    data = np.arange(8, dtype="i")
    address, nbytes, keepalive, *_ = resolve([data, 1, every_second], writable=False, rank=0)
    data[:] = 7
    keepalive.pack()
    assert ctypes.string_at(address, nbytes) == np.full(4, 7, "i").tobytes()


@pytest.mark.parametrize("extent", [0, -4])
def test_extents_that_do_not_advance_are_packed(extent):
    datatype = MPI.INT.Create_resized(0, extent).Commit()
    data = np.arange(4, dtype="i")
    address, nbytes, keepalive, *_ = resolve(
        [memoryview(data)[2:], 3, datatype], writable=False, rank=0
    )
    expected = data[[2, 2, 2]] if extent == 0 else data[[2, 1, 0]]
    assert ctypes.string_at(address, nbytes) == expected.tobytes()
    del keepalive
    datatype.Free()


def test_many_elements_are_packed_piece_by_piece(every_second, monkeypatch):
    monkeypatch.setattr(packing, "_PIECE_BYTES", 40)
    wide = every_second.Create_resized(0, 32).Commit()
    data = np.arange(80, dtype="i")
    into = np.zeros(80, "i")
    address, nbytes, keepalive, *_ = resolve([data, 10, wide], writable=False, rank=0)
    packed = ctypes.string_at(address, nbytes)
    assert packed == data[::2].tobytes()
    receive([into, 10, wide], packed)
    assert (into[::2] == data[::2]).all()
    assert (into[1::2] == 0).all()
    del keepalive
    wide.Free()


def test_bottom_is_received_at_its_absolute_addresses():
    into = np.zeros(4, "i")
    datatype = MPI.Datatype.Create_struct(
        [1, 1], [into.ctypes.data + 12, into.ctypes.data], [MPI.INT, MPI.INT]
    ).Commit()
    receive([MPI.BOTTOM, 1, datatype], np.array([8, 9], "i").tobytes())
    assert into.tolist() == [9, 0, 0, 8]
    datatype.Free()
