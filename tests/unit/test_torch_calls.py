"""What a tag says of a collective operation."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from mooncake_mpi.torch.calls import OPERATIONS, Call, of_tag  # noqa: E402


@pytest.mark.parametrize("sequence", [1, 8190, 8191, 8192, 8193, 1_000_003])
@pytest.mark.parametrize("away", [-4000, -1, 0, 1, 4000])
def test_a_tag_tells_the_operation_and_its_number(sequence, away):
    for name in OPERATIONS:
        tag = Call(name, sequence, (torch.ones(3),), (5,)).tag
        assert 0 <= tag < 1 << 27  # every MPI library allows that
        assert of_tag(tag, sequence + away) == (name, sequence)


def test_what_ranks_must_agree_on_makes_another_tag():
    call = Call("reduce", 7, (torch.ones(3), torch.ones(4, 2)), (1, 0))
    assert call.tag == Call("reduce", 7, (torch.zeros(3), torch.ones(8)), (1, 0)).tag
    others = [
        Call("all_reduce", 7, call.tensors, (1, 0)),
        Call("reduce", 8, call.tensors, (1, 0)),
        Call("reduce", 7, call.tensors, (2, 0)),
        Call("reduce", 7, call.tensors, (1, 1)),
        Call("reduce", 7, (torch.ones(3),), (1, 0)),
        Call("reduce", 7, (torch.ones(4), torch.ones(8)), (1, 0)),
        Call("reduce", 7, (torch.ones(3), torch.ones(8).double()), (1, 0)),
        Call("reduce", 7, call.tensors, (1, 0), (torch.int32,)),
    ]
    assert call.tag not in {other.tag for other in others}


def test_a_call_says_what_it_is():
    call = Call("broadcast", 3, (torch.ones(4), torch.ones(2).to(torch.bfloat16)), (0,))
    assert str(call) == "broadcast(4 of float32, 2 of bfloat16), operation 3"
    call = Call("gather", 4, types=(torch.int8,) * 9)
    assert str(call) == "gather(int8, int8, int8, ...), operation 4"
