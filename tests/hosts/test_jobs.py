"""One job over several hosts, by the launcher of the MPI library that the tests run with, or by none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs import REPOSITORY, is_alive

COMMAND = [str(REPOSITORY / "scripts" / "hosts"), "run", "--mpi"]


@pytest.fixture
def program(tmp_path):
    """Writes a program that all hosts see; its path."""

    def write(text):
        path = tmp_path / "program.py"
        path.write_text(text)
        return path

    return write


def test_ranks_fill_the_hosts_in_order_and_reach_each_other(two_hosts, hosts, program):
    outcome = hosts.run_job(
        4,
        program("""
import os, socket
from mpi4py import MPI
comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
right, left = (rank + 1) % size, (rank - 1) % size
assert comm.sendrecv(b"x" * 3_000_000 + bytes([rank]), right, source=left)[-1] == left
assert comm.allreduce(rank) == 6
node = comm.Split_type(MPI.COMM_TYPE_SHARED)
print(f"<{rank} {socket.gethostname()} {node.size} {os.environ['WORD']}>", flush=True)
"""),
        per_host=2,
        environment={"WORD": "carried"},
    )
    assert outcome.returncode == 0, outcome.output
    for rank, host in enumerate(("host0", "host0", "host1", "host1")):
        assert f"<{rank} {host} 2 carried>" in outcome.output


def test_the_status_of_a_rank_in_another_host_comes_back(hosts, program):
    path = program("""
import os
from mpi4py import MPI
MPI.COMM_WORLD.Barrier()
if MPI.COMM_WORLD.rank == 1:
    os._exit(9)
MPI.COMM_WORLD.Barrier()
""")
    assert hosts.run_job(2, path).returncode not in {0, 124, 125}


def test_without_a_launcher_ranks_have_torchs_variables(hosts, program):
    outcome = hosts.run_job(
        4,
        program("""
import os, socket
print("<" + " ".join(os.environ[name] for name in
    ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "HOSTNAME")) + ">", flush=True)
"""),
        per_host=2,
        mpi=False,
    )
    assert outcome.returncode == 0
    for words in (
        "0 0 4 host0 host0",
        "1 1 4 host0 host0",
        "2 0 4 host0 host1",
        "3 1 4 host0 host1",
    ):
        assert f"<{words}>" in outcome.output


def test_without_a_launcher_a_rank_that_fails_ends_the_others(hosts, program):
    path = program("""
import os, time
if os.environ["RANK"] == "1":
    raise SystemExit(9)
time.sleep(1000)
""")
    outcome = hosts.run_job(3, path, per_host=2, mpi=False)
    assert outcome.returncode == 9


def test_a_job_is_told_to_be_on_hosts_that_no_lane_reaches(hosts, program):
    outcome = hosts.run_job(
        2,
        program("""
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
other = 1 - comm.rank
def test_often():
    request = comm.Irecv(bytearray(8), other)
    while not request.Test(): pass
for call in (
    lambda: comm.Send(bytearray(8), other), lambda: comm.Recv(bytearray(8), other), test_often,
    lambda: comm.Probe(other), lambda: comm.recv(), lambda: comm.Probe(),
):
    try: call()
    except MPI.Exception as error: print(f"<{comm.rank}: {error}>", flush=True)
"""),
        environment={"MOONCAKE_MPI_LANES": "self,shm"},
    )
    for rank in range(2):
        said = [line for line in outcome.output.splitlines() if f"<{rank}: " in line]
        assert len(said) == 6, outcome.output
        assert all("shm: another host" in line for line in said)


def run_command(*words, **options):
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_the_command_shows_the_output_and_ends_with_the_status():
    ended = run_command("none", "-n", "2", "/bin/sh", "-c", "echo out $RANK; exit $RANK")
    assert ended.returncode == 1
    assert sorted(ended.stdout.split()[1::2]) == ["0", "1"]


def test_the_command_ends_a_job_at_its_time():
    ended = run_command("none", "--timeout", "1", "-n", "2", "sleep", "1000")
    assert ended.returncode == 124
    assert ended.stderr.endswith("hosts: still running after 1 s\n")


def test_the_command_cuts_and_heals_when_it_is_asked_to():
    text = """
import os, socket, sys, time
rank = os.environ["RANK"]
mine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mine.bind(("", 4000)); mine.settimeout(0.02)
arrived = []
start = time.monotonic()
while (now := time.monotonic() - start) < 4:
    try: mine.sendto(b".", (f"host{1 - int(rank)}", 4000))
    except OSError: pass
    try: mine.recv(1); arrived.append(now)
    except OSError: time.sleep(0.02)
gap = max(b - a for a, b in zip(arrived, arrived[1:]))
sys.stdout.write(f"gap {gap} end {arrived[-1]}\\n")  # in one piece
"""
    ended = run_command("none", "-n", "2", "--cut", "0:1@1+1.5", sys.executable, "-c", text)
    assert ended.returncode == 0, ended.stderr
    for line in ended.stdout.splitlines():
        gap, end = map(float, line.split()[1::2])
        assert 1.4 < gap < 2.5
        assert end > 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--delay", "5"), "is no time, as 5ms is"),
        (("--loss", "1"), "is no part, as 1% is"),
        (("--cut", "0:1"), "is no cut, as 0:1@5+10 is"),
        (("--cut", "0:7@1"), "there is no host7, only host0, host1"),
        (("--rate", "fast"), "rate"),
    ],
)
def test_an_option_that_cannot_be_is_one_clear_line(words, said):
    ended = run_command("none", "-n", "2", *words, "true")
    assert ended.returncode in {2, 125}
    assert said in ended.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_command_ends_all_that_it_started(number, tmp_path):
    told = tmp_path / "told"
    text = f"import os, time; open({str(told)!r} + os.environ['RANK'], 'w').close(); time.sleep(1000.25)"
    with subprocess.Popen([*COMMAND, "none", "-n", "2", sys.executable, "-c", text]) as command:
        deadline = time.monotonic() + 30
        while not all(Path(f"{told}{rank}").exists() for rank in range(2)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        command.send_signal(number)
        assert command.wait(30) == 128 + number
    assert not [pid for pid in processes() if "1000.25" in command_line(pid)]


def processes():
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and is_alive(int(name))]


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_ranks_of_a_job_change_the_network_themselves(hosts, program):
    outcome = hosts.run_job(
        2,
        program(f"""
import os, subprocess, sys
def ask(*words): return subprocess.run(
    [{COMMAND[0]!r}, *words], check=True, capture_output=True, text=True).stdout
if os.environ["RANK"] == "0":
    assert ask("exec", "1", "hostname") == "host1\\n"
    for word in ("cut", "heal"): ask(word, "0:1")
    ask("unplug", "1")
    ask("plug", "1")
    assert ask("reset", "0") == "0\\n"
    print("<done>")
"""),
        mpi=False,
    )
    assert outcome.returncode == 0, outcome.output
    assert "<done>" in outcome.output
