"""What networks and hosts do to a job: what heals costs time only, what does not is an error that says so."""

from __future__ import annotations

import os
import time

import pytest
from bed import Network
from jobs import REPOSITORY

LONG = "MOONCAKE_MPI_TEST_LONG" in os.environ  # minutes instead of seconds
SECONDS = "MOONCAKE_MPI_TCP_TIMEOUT_S"


CUT = """
over = threading.Event()
def cut_and_heal():
    faults.cut(bed, "host0", "host1")
    time.sleep(CUT_SECONDS)
    faults.heal(bed, "host0", "host1")
    time.sleep(0.5)
    over.set()
if rank == 0:
    in_a_while(0.5, cut_and_heal)
turns, longest = exchange(1 - rank, over.is_set)
end([0, 1], turns=turns, longest=longest)
"""


@pytest.mark.parametrize("seconds", [1, 5, pytest.param(60, marks=pytest.mark.long)])
def test_messages_go_on_after_a_link_was_cut(hosts, play, seconds):
    results = play(
        hosts, 2, CUT.replace("CUT_SECONDS", str(seconds)), [0, 1], timeout=90 + 3 * seconds
    )
    for rank in (0, 1):
        assert results[rank]["longest"] > 0.8 * seconds
        assert results[rank]["turns"] > 6


@pytest.mark.ours
def test_a_cut_that_is_longer_than_the_setting_allows_fails_the_peer(hosts, play):
    results = play(
        hosts,
        2,
        """
exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
into = np.zeros(10)
if rank == 0:
    faults.cut(bed, "host0", "host1")
began = time.time()
error = caught(comm.Recv, into, 1 - rank)
tell("heard", True)
told("heard", 1 - rank)
if rank == 0:
    faults.heal(bed, "host0", "host1")
end([0, 1], error=error, took=error and error[2] - began, sends=caught(comm.Send, into, 1 - rank))
""",
        [0, 1],
        environment={SECONDS: "2"},
    )
    for rank in (0, 1):
        assert results[rank]["error"][0] == "PROC_FAILED"
        assert f"rank {1 - rank}" in results[rank]["error"][1]
        assert 1.5 < results[rank]["took"] < 20
        assert results[rank]["sends"][0] == "PROC_FAILED"


@pytest.mark.ours
def test_who_sends_into_a_cut_for_ever_hears_of_it_too(hosts, play):
    results = play(
        hosts,
        2,
        """
exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
if rank == 0:
    faults.cut(bed, "host0", "host1")
    began = time.time()
    large = np.ones(50_000_000, np.uint8)
    error = caught(comm.Ssend, large, 1)
    tell("heard", True)
    faults.heal(bed, "host0", "host1")
    end([0], error=error, took=error and error[2] - began)
told("heard", 0)
os._exit(0)
""",
        [0],
        environment={SECONDS: "2"},
    )
    assert results[0]["error"][0] == "PROC_FAILED"
    assert 1.5 < results[0]["took"] < 20


@pytest.mark.ours
def test_a_connection_that_is_reset_fails_its_peer_and_no_other(make_hosts, play):
    results = play(
        make_hosts(3),
        3,
        """
def reset():
    tell("reset", faults.reset_connections(bed, "host1", *PORTS_OF_JOB, "and", "dst", "10.77.0.1"))
if rank == 2:
    comm.Send(np.zeros(1), 0, 9)
    into = np.zeros(1)
    for _ in range(2):
        comm.Recv(into, 0, 8)
        comm.Send(into, 0, 8)
    end([0, 1, 2], went_on=True)
if rank == 0:
    comm.Recv(np.zeros(1), 2, 9)
    comm.Send(np.zeros(1), 2, 8)
    comm.Recv(np.zeros(1), 2, 8)
    in_a_while(0.5, reset)
large = np.ones(30_000_000, np.uint8)
into = np.empty_like(large)
def go_on():
    while True:
        comm.Sendrecv(large, 1 - rank, 3, into, 1 - rank, 3)
error = caught(go_on)
if rank == 0:
    comm.Send(np.zeros(1), 2, 8)
    comm.Recv(np.zeros(1), 2, 8)
end([0, 1, 2], error=error)
""",
        [0, 1, 2],
    )
    for rank in (0, 1):
        assert results[rank]["error"][0] == "PROC_FAILED"
        assert f"rank {1 - rank}" in results[rank]["error"][1]
    assert results[2]["went_on"]


@pytest.mark.ours
def test_a_process_that_dies_on_another_host_is_noticed_at_once(hosts, play):
    results = play(
        hosts,
        2,
        """
exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
if rank == 1:
    tell("died", time.time())
    os.kill(os.getpid(), signal.SIGKILL)
error = caught(comm.Recv, np.zeros(1), 1)
end([0], error=error, took=error[2] - told("died", 1))
""",
        [0],
    )
    assert results[0]["error"][0] == "PROC_FAILED"
    assert results[0]["took"] < 5


@pytest.mark.ours
def test_a_process_that_dies_behind_a_cut_is_noticed_once_it_heals(hosts, play):
    results = play(
        hosts,
        2,
        """
exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
if rank == 1:
    faults.cut(bed, "host0", "host1")
    tell("died", time.time())
    os.kill(os.getpid(), signal.SIGKILL)
told("died", 1)
in_a_while(2, faults.heal, bed, "host0", "host1")
error = caught(comm.Recv, np.zeros(1), 1)
end([0], error=error, took=error[2] - told("died", 1))
""",
        [0],
    )
    assert results[0]["error"][0] == "PROC_FAILED"


def test_a_process_that_stands_still_is_waited_for(hosts, play):
    results = play(
        hosts,
        2,
        """
exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
if rank == 1:
    tell("stops", os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)
else:
    pid = told("stops", 1)
    in_a_while(5, remote.run, bed, "host1", ["kill", "-CONT", str(pid)])
turns, longest = exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
end([0, 1], turns=turns, longest=longest)
""",
        [0, 1],
        environment={SECONDS: "2"},
    )
    assert results[0]["longest"] > 3
    assert results[1]["turns"] == 13


def test_messages_arrive_over_a_slow_link_that_loses_some(make_hosts, play):
    results = play(
        make_hosts(2, Network(delay_us=50_000, loss=0.01)),
        2,
        """
started = time.monotonic()
turns, longest = exchange(1 - rank, lambda: time.monotonic() - started > 8, (8, 9000, 300_000))
end([0, 1], turns=turns)
""",
        [0, 1],
    )
    for rank in (0, 1):
        assert results[rank]["turns"] > 5


def test_messages_go_on_over_a_link_that_flaps(hosts, play):
    results = play(
        hosts,
        4,
        """
def flap():
    for turn in range(12 if LONG else 4):
        faults.cut(bed, "host0", "host1")
        time.sleep(0.3)
        faults.heal(bed, "host0", "host1")
        time.sleep(0.7)
    tell("flapped")
if rank == 0:
    in_a_while(0.2, flap)
near = rank ^ 1
far = (rank + 2) % 4
turns, longest = exchange(far, lambda: (folder / "flapped-0").exists())
near_turns = exchange(near, lambda turns=iter(range(100)): next(turns) == 30)[0]
end(range(4), turns=turns, near=near_turns)
""".replace("LONG", str(LONG)),
        [0, 1, 2, 3],
        per_host=2,
    )
    for rank in range(4):
        assert results[rank]["near"] == 31


def test_random_messages_arrive_over_a_link_that_flaps(hosts):
    soak = REPOSITORY / "tests" / "soak" / "soak.py"
    seconds = 600 if LONG else 10
    job, output = hosts.start_job(3, soak, "--seconds", seconds, per_host=2)
    deadline = time.monotonic() + seconds + 60
    while not job.ended(0.7):
        assert time.monotonic() < deadline, "the job does not end"
        hosts.cut("host0", "host1")
        time.sleep(0.2)
        hosts.heal("host0", "host1")
    output.seek(0)
    assert job.returncode == 0, output.read()
