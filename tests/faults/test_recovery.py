"""After a death: acknowledge, agree, revoke, shrink, and go on."""

from __future__ import annotations

import pytest


def test_receives_from_any_source_are_pending_until_the_failure_is_acknowledged(survive):
    results = survive(
        3,
        """
into, late = np.zeros(10), np.zeros(10)
comm.Barrier()
request = comm.Irecv(into, MPI.ANY_SOURCE, 5)
if rank == 2:
    die()
pending = caught(request.Wait)
again = caught(request.Test)
several = caught(MPI.Request.Waitall, [request])
blocking = caught(comm.Recv, late, MPI.ANY_SOURCE, 6)
objects = caught(comm.recv, None, MPI.ANY_SOURCE, 6)
probing = caught(comm.Probe, MPI.ANY_SOURCE, 6)
exact = caught(comm.Sendrecv, np.full(10, 1.0), 1 - rank, 7, late, 1 - rank, 7)
meet("seen", [0, 1])
failed = comm.Get_failed()
members = MPI.Group.Translate_ranks(failed, [0], comm.Get_group())
acknowledged = comm.Ack_failed()
comm.Send(np.full(10, 2.0 + rank), 1 - rank, 5)
finished = caught(request.Wait)
comm.Send(np.full(10, 3.0), 1 - rank, 8)
after = caught(comm.Recv, late, MPI.ANY_SOURCE, 8)
end([0, 1], pending=pending, again=again, several=several, blocking=blocking, objects=objects,
    probing=probing, exact=exact, members=members, acknowledged=acknowledged, finished=finished,
    after=after, into=into.tolist(), null=not request)
""",
        survivors=[0, 1],
    )
    for rank in (0, 1):
        told = results[rank]
        for call in ("pending", "again", "blocking", "objects", "probing"):
            assert told[call][0] == "PENDING", call
        assert told["several"][0] == "IN_STATUS"
        assert told["exact"] is None
        assert told["members"] == [2]
        assert told["acknowledged"] == 1
        assert told["finished"] is None
        assert told["null"]
        assert told["after"] is None
        assert told["into"] == [2.0 + (1 - rank)] * 10
        assert told["pending"][2] - results["died"] < 1


def test_a_revoked_communicator_releases_those_who_wait_in_it_and_no_other(survive):
    results = survive(
        4,
        """
into = np.zeros(10)
other = comm.Dup()
comm.Barrier()
if rank == 3:
    die()
if rank == 0:
    first = caught(comm.Recv, into, 3)
    time.sleep(0.3)
    comm.Revoke()
else:
    # These wait for the living: only the revocation tells them that something is wrong.
    first = caught(comm.Recv, into, 3 - rank, 1) if rank == 1 else caught(comm.recv, source=0)
later = [caught(comm.Send, into, (rank + 1) % 3), caught(comm.Isend, np.zeros(100_000), 0, 4),
         caught(comm.Recv, into, MPI.ANY_SOURCE), caught(comm.Iprobe, 1)]
spared = caught(other.Sendrecv, np.full(10, 1.0), (rank + 1) % 3, 0, into, (rank - 1) % 3, 0)
comm.Ack_failed()
agreed = comm.Agree(7 if rank else 5)
end([0, 1, 2], first=first, later=later, spared=spared, agreed=agreed,
    revoked=[comm.Is_revoked(), other.Is_revoked()])
""",
        survivors=[0, 1, 2],
    )
    assert results[0]["first"][0] == "PROC_FAILED"
    for rank in (0, 1, 2):
        told = results[rank]
        if rank:
            assert told["first"][0] == "REVOKED"
        assert [error[0] for error in told["later"]] == ["REVOKED"] * 4
        assert told["spared"] is None
        assert told["agreed"] == 5
        assert told["revoked"] == [True, False]


def test_who_has_revoked_refuses_what_comes_while_it_makes_no_call(survive):
    results = survive(
        3,
        """
message = np.ones(1_000_000)
comm.Sendrecv(message, 1 - rank if rank < 2 else 2, 0, message.copy(), 1 - rank if rank < 2 else 2, 0)
comm.Barrier()
if rank == 2:
    die()
began, sent = time.monotonic(), None
if rank == 0:
    comm.Revoke()
    time.sleep(6)
else:
    time.sleep(1)  # it has not looked, and announces its message before it hears
    began = time.monotonic()
    sent = caught(comm.Ssend, message, 0)
end([0, 1], sent=sent, took=time.monotonic() - began)
""",
        survivors=[0, 1],
    )
    assert results[1]["sent"][0] == "REVOKED"
    assert results[1]["took"] < 4


@pytest.mark.parametrize("victims", [(0,), (0, 2), (4, 1)])
def test_survivors_agree_and_shrink_wherever_others_die_in_between(survive, victims):
    survivors = [rank for rank in range(5) if rank not in victims]
    results = survive(
        5,
        f"""
victims = {victims!r}
comm.Barrier()
flag = np.array([~(1 << rank)], dtype="i")
request = comm.Iagree(flag)
if rank in victims:
    for _ in range(3 * rank):
        request._poll()
    die()
first = caught(request.Wait)
comm.Ack_failed()
new = comm.Shrink()
while new.size > {len(survivors)}:  # a victim may have died after it had agreed to live
    new.Ack_failed()
    new = new.Shrink()
me, others = new.rank, new.size
into = np.zeros(300_000)
for turn in range(20):
    new.Sendrecv(np.full(300_000, 10.0 * turn + me), (me + 1) % others, 0, into, (me - 1) % others, 0)
    assert (into == 10 * turn + (me - 1) % others).all()
duplicate = new.Dup()
around = duplicate.sendrecv({{"from": rank}}, (me + 1) % others, source=(me - 1) % others)
half = new.Split(me % 2, -me)
world = MPI.Group.Translate_ranks(new.Get_group(), list(range(others)), comm.Get_group())
end({survivors!r}, flag=int(flag[0]), first=first and first[0], rank=me, size=others, around=around,
    half=[half.rank, half.size], world=world, barrier=caught(new.Barrier)[1],
    intra=isinstance(new, MPI.Intracomm), agreed=new.Agree(6 + me % 2))
""",
        survivors=survivors,
    )
    told = [results[rank] for rank in survivors]
    assert len({(one["flag"], one["first"]) for one in told}) == 1, "all agree alike"
    for rank in survivors:
        assert not told[0]["flag"] >> rank & 1, "every survivor's flag counts"
    assert [one["rank"] for one in told] == list(range(len(survivors)))
    for place, one in enumerate(told):
        assert one["size"] == len(survivors)
        assert one["world"] == survivors
        assert one["around"] == {"from": survivors[place - 1]}
        assert one["agreed"] == 6
        assert one["intra"]
        assert "ERR_UNSUPPORTED_OPERATION" in one["barrier"]
        count = len(survivors[place % 2 :: 2])
        assert one["half"] == [count - 1 - place // 2, count]
