"""Which way messages take between hosts, and what they say who find none."""

from __future__ import annotations

import pytest
from bed import Network

pytestmark = pytest.mark.ours
SECONDS = "MOONCAKE_MPI_TCP_TIMEOUT_S"


def test_wildcards_take_messages_of_both_lanes(hosts, play):
    results = play(
        hosts,
        4,
        """
counts = np.zeros(size, int)
into = np.zeros(2)
if rank == 0:
    status = MPI.Status()
    for _ in range(3 * 200):
        comm.Recv(into, MPI.ANY_SOURCE, MPI.ANY_TAG, status)
        source = status.Get_source()
        assert into[0] == source and into[1] == counts[source] == status.Get_tag(), (into, counts)
        counts[source] += 1
else:
    for turn in range(200):
        comm.Send(np.array([rank, turn], float), 0, turn)
end(range(4), counts=counts.tolist())
""",
        [0],
        per_host=2,
    )
    assert results[0]["counts"] == [0, 200, 200, 200]


@pytest.mark.parametrize(
    ("chosen", "address"),
    [("10.77.0.0/24", "10.77.0."), ("fd77::/64", "fd77::"), ("eth0", "")],
)
def test_the_chosen_network_is_taken(hosts, play, chosen, address):
    results = play(
        hosts,
        2,
        """
exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
mine = PORTS_OF_JOB
shown = remote.run(bed, f"host{rank}", ["ss", "-tnH", "state", "established", *mine]).stdout
end([0, 1], addresses=[line.split()[-2] for line in shown.splitlines()])
""",
        [0, 1],
        environment={"MOONCAKE_MPI_TCP_INTERFACES": chosen},
    )
    for rank in (0, 1):
        assert results[rank]["addresses"]
        assert all(address in each for each in results[rank]["addresses"])


def test_a_host_name_that_means_loopback_is_in_nobodys_way(make_hosts, play):
    results = play(
        make_hosts(2, Network(loopback_names=True)),
        2,
        """
turns, _ = exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
end([0, 1], turns=turns)
""",
        [0, 1],
    )
    assert results[0]["turns"] == results[1]["turns"] == 13


@pytest.mark.parametrize(
    ("how", "said"), [("drop", "no answer"), ("reject with tcp reset", "refused")]
)
@pytest.mark.parametrize(
    "call",
    [
        "comm.Ssend, np.zeros(10), 1 - rank",
        "comm.Recv, np.zeros(10), 1 - rank",
        "comm.Issend(np.zeros(10), 1 - rank).Wait",
    ],
)
def test_a_firewall_on_both_sides_is_one_clear_line(hosts, play, how, said, call):
    for name in hosts.names:
        hosts.refuse(name, how)
    results = play(
        hosts,
        2,
        f"end([0, 1], error=caught({call}))",
        [0, 1],
        environment={SECONDS: "3"},
    )
    for rank in (0, 1):
        name, text, _ = results[rank]["error"]
        assert name == "PROC_FAILED"
        assert f"rank {1 - rank}" in text
        assert said in text
        assert "\n" not in text


def test_a_firewall_on_one_side_is_passed_from_the_other(hosts, play):
    hosts.refuse("host0")
    results = play(
        hosts,
        2,
        """
turns, _ = exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
end([0, 1], turns=turns)
""",
        [0, 1],
    )
    assert results[0]["turns"] == results[1]["turns"] == 13


def test_a_black_hole_for_large_packets_is_an_error(hosts, play):
    results = play(
        hosts,
        2,
        """
exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
if rank == 0:
    faults.swallow(bed, "host1", 1000)
    error = caught(comm.Ssend, np.ones(5_000_000, np.uint8), 1)
else:
    error = caught(comm.Recv, np.ones(5_000_000, np.uint8), 0)
end([0, 1], error=error)
""",
        [0, 1],
        environment={SECONDS: "3"},
    )
    for rank in (0, 1):
        assert results[rank]["error"][0] == "PROC_FAILED"


def test_torchs_processes_meet_over_hosts_without_mpi(hosts, tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "program.py"
    path.write_text("""
import torch
import torch.distributed as dist
import mooncake_mpi.torch
dist.init_process_group("mooncake_mpi")
rank, size = dist.get_rank(), dist.get_world_size()
summed = torch.full((100_000,), float(rank))
dist.all_reduce(summed)
assert (summed == size * (size - 1) / 2).all()
into = torch.empty(1_000_000)
sending = dist.isend(torch.full((1_000_000,), float(rank)), (rank + 1) % size)
dist.recv(into, (rank - 1) % size)
sending.wait()
assert (into == (rank - 1) % size).all()
dist.destroy_process_group()
print(f"<{rank} of {size}>", flush=True)
""")
    outcome = hosts.run_job(4, path, per_host=2, mpi=False, timeout=120)
    assert outcome.returncode == 0, outcome.output
    for rank in range(4):
        assert f"<{rank} of 4>" in outcome.output
