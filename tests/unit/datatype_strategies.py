"""Random derived datatypes."""

from __future__ import annotations

from hypothesis import strategies as st
from mpi4py import MPI

NAMED = [MPI.BYTE, MPI.SHORT, MPI.INT, MPI.DOUBLE, MPI.DOUBLE_INT, MPI.SHORT_INT]
small = st.integers(1, 3)
lists = st.lists(st.tuples(st.integers(0, 2), st.integers(-2, 6)), min_size=1, max_size=4)


def _derived(children):
    """One constructor around one datatype."""

    def indexed(base, blocks):
        return base.Create_indexed([n for n, _ in blocks], [at for _, at in blocks])

    def hindexed(base, blocks):
        return base.Create_hindexed([n for n, _ in blocks], [4 * at for _, at in blocks])

    def struct(bases, blocks):
        count = min(len(bases), len(blocks))
        lengths = [n for n, _ in blocks[:count]]
        displacements = [8 * at for _, at in blocks[:count]]
        return MPI.Datatype.Create_struct(lengths, displacements, bases[:count])

    def subarray(base, axes, order):
        sizes = [size + taken + first for size, taken, first in axes]
        taken = [taken for _, taken, _ in axes]
        first = [first for _, _, first in axes]
        return base.Create_subarray(sizes, taken, first, order)

    axes = st.lists(st.tuples(st.integers(0, 1), small, st.integers(0, 1)), min_size=1, max_size=3)
    constructors = st.one_of(
        st.builds(lambda base, n: base.Create_contiguous(n), children, small),
        st.builds(
            lambda base, n, length, stride: base.Create_vector(n, length, stride),
            children, small, small, st.integers(-3, 4),
        ),
        st.builds(
            lambda base, n, length, stride: base.Create_hvector(n, length, stride),
            children, small, small, st.integers(-32, 64),
        ),
        st.builds(indexed, children, lists),
        st.builds(hindexed, children, lists),
        st.builds(struct, st.lists(children, min_size=1, max_size=3), lists),
        st.builds(
            lambda base, length, at: base.Create_indexed_block(length, at),
            children, small, st.lists(st.integers(-2, 6), min_size=1, max_size=4),
        ),
        st.builds(subarray, children, axes, st.sampled_from([MPI.ORDER_C, MPI.ORDER_F])),
        st.builds(
            lambda base, low, extent: base.Create_resized(low, extent),
            children, st.integers(-8, 8), st.integers(1, 40),
        ),
        st.builds(lambda base: base.Dup(), children),
    )  # fmt: skip
    # Libraries disagree about the bounds of a datatype without data.
    return constructors.filter(lambda datatype: datatype.Get_size() > 0)


def datatypes():
    """Derived datatypes up to three constructors deep; the inner ones are left to the library."""
    return st.recursive(st.sampled_from(NAMED), _derived, max_leaves=4).filter(
        lambda datatype: not datatype.is_predefined
    )
