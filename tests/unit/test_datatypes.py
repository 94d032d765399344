"""Datatypes whose bytes lie in order are found, and only those."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from datatype_strategies import datatypes
from hypothesis import given, settings
from mpi4py import MPI

from mooncake_mpi.buffers.datatypes import dense_size, from_code, from_format, layout_of


@pytest.fixture
def make():
    """Commit datatypes, and free them after the test."""
    made = []

    def commit(datatype):
        made.append(datatype.Commit())
        return datatype

    yield commit
    for datatype in made:
        datatype.Free()


def struct(lengths, displacements, types):
    return MPI.Datatype.Create_struct(lengths, displacements, types)


CONTIGUOUS = {
    "contiguous": lambda: MPI.INT.Create_contiguous(5),
    "a vector without a stride": lambda: MPI.INT.Create_vector(4, 3, 3),
    "a byte vector without a stride": lambda: MPI.INT.Create_hvector(4, 3, 12),
    "one block of a vector": lambda: MPI.INT.Create_vector(1, 3, 7),
    "adjacent blocks": lambda: MPI.INT.Create_indexed([2, 3], [1, 3]),
    "adjacent equal blocks": lambda: MPI.INT.Create_indexed_block(2, [4, 6, 8]),
    "a struct without padding": lambda: struct([1, 2], [0, 8], [MPI.DOUBLE, MPI.INT]),
    "whole rows": lambda: MPI.INT.Create_subarray([4, 5], [2, 5], [1, 0]),
    "part of one row": lambda: MPI.INT.Create_subarray([4, 5], [1, 2], [3, 1]),
    "whole columns in Fortran's order": lambda: MPI.INT.Create_subarray(
        [4, 5], [4, 2], [0, 3], MPI.ORDER_F
    ),
}

SCATTERED = {
    "a vector with a stride": lambda: MPI.INT.Create_vector(4, 3, 4),
    "a permuted struct": lambda: struct([1, 1], [4, 0], [MPI.INT, MPI.INT]),
    "permuted blocks": lambda: MPI.INT.Create_indexed_block(1, [1, 0]),
    "a column": lambda: MPI.INT.Create_subarray([4, 5], [4, 1], [0, 2]),
    "a block of two rows": lambda: MPI.INT.Create_subarray([4, 5], [2, 3], [1, 1]),
    "a gap closed by an overlap": lambda: MPI.INT.Create_indexed_block(1, [0, 0, 2]),
    "spread by a resized element": lambda: MPI.INT.Create_resized(0, 8).Create_contiguous(3),
}


@pytest.mark.parametrize("name", CONTIGUOUS)
def test_a_run_of_bytes_is_recognised(make, name):
    datatype = make(CONTIGUOUS[name]())
    layout = layout_of(datatype)
    assert layout.start == datatype.Get_true_extent()[0]
    assert layout.run_start(1) == layout.start


@pytest.mark.parametrize("name", SCATTERED)
def test_anything_else_is_packed(make, name):
    assert layout_of(make(SCATTERED[name]())).start is None


def test_elements_that_are_spread_are_a_run_only_by_themselves(make):
    layout = layout_of(make(MPI.INT.Create_resized(0, 8)))
    assert layout.run_start(1) == 0
    assert layout.run_start(2) is None


def test_the_start_is_the_true_lower_bound(make):
    assert layout_of(make(MPI.INT.Create_hindexed([3], [20]))).run_start(1) == 20
    assert layout_of(make(MPI.INT.Create_hindexed([3], [-8]))).run_start(1) == -8


@given(datatypes())
@settings(max_examples=150, deadline=None)
def test_a_run_of_bytes_is_what_mpi_packs(datatype):
    datatype.Commit()
    try:
        layout = layout_of(datatype)
        if layout.start is None:
            return
        low = min(layout.true_lower_bound, 0)
        memory = np.random.default_rng(1).integers(
            0, 256, layout.true_lower_bound + layout.true_extent - low, np.uint8
        )
        element = datatype.Create_resized(0, 1).Commit()
        packed = np.zeros(layout.size, np.uint8)
        address = memory.ctypes.data - low
        element.Pack(MPI.buffer.fromaddress(address, 1), packed, 0, MPI.COMM_SELF)
        element.Free()
        assert ctypes.string_at(address + layout.start, layout.size) == packed.tobytes()
    finally:
        datatype.Free()


def test_an_uncommitted_datatype_is_an_err_type():
    datatype = MPI.INT.Create_vector(4, 3, 4)
    with pytest.raises(MPI.Exception) as caught:
        layout_of(datatype)
    assert caught.value.Get_error_class() == MPI.ERR_TYPE
    datatype.Commit()
    assert layout_of(datatype).size == 48
    datatype.Free()


def test_a_layout_is_not_mistaken_for_that_of_a_freed_datatype():
    for count in range(1, 50):
        datatype = MPI.INT.Create_contiguous(count).Commit()
        assert layout_of(datatype).size == 4 * count
        datatype.Free()


def test_looking_at_a_datatype_frees_what_decoding_made():
    inner = MPI.INT.Create_contiguous(2)
    outer = inner.Create_contiguous(3).Commit()
    inner.Free()
    for _ in range(10_000):
        outer_copy = outer.Dup()
        layout_of(outer_copy)
        outer_copy.Free()
    assert layout_of(outer).size == 24
    outer.Free()


def test_predefined_datatypes_are_dense_once_they_were_used():
    layout_of(MPI.DOUBLE)
    assert dense_size(MPI.DOUBLE) == 8
    layout_of(MPI.DOUBLE_INT)
    assert dense_size(MPI.DOUBLE_INT) == 0


@pytest.mark.parametrize("code", ["i", "d", "Zd", "?", "i4", "f8", "c16", "B", "e", "f2"])
def test_type_codes_have_a_datatype_of_their_size(code):
    sizes = {"i": 4, "d": 8, "Zd": 16, "?": 1, "i4": 4, "f8": 8, "c16": 16, "B": 1, "e": 2, "f2": 2}
    assert from_code(code).Get_size() == sizes[code]


@pytest.mark.parametrize("code", ["O", "T{i:a:}", "", "zz", None, 3])
def test_an_unknown_type_code_is_a_key_error_in_mpi4py_s_words(code):
    with pytest.raises(KeyError, match=r"cannot map .* to MPI datatype"):
        from_code(code)


def test_native_byte_order_marks_are_understood_and_the_other_order_is_refused():
    little = np.dtype("=i4").newbyteorder("<").isnative
    assert from_format("@i") == MPI.INT
    assert from_format("<i" if little else ">i") == MPI.INT
    with pytest.raises(BufferError, match="byte order"):
        from_format(">i" if little else "<i")
