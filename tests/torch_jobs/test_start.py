"""Processes that meet through torch's own stores, without an MPI library, and how they end."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

USE = """
total = torch.ones(3)
dist.all_reduce(total)
assert total.tolist() == [size] * 3
into = torch.empty(1)
work = dist.isend(torch.tensor([float(rank)]), (rank + 1) % size, tag=3)
assert dist.recv(into, tag=3) == (rank - 1) % size
work.wait()
into = torch.empty(2, 2)
for work in mooncake_mpi.torch.batch_isend_irecv([
    dist.P2POp(dist.isend, torch.full((2, 2), float(rank)).t(), (rank + 1) % size),
    dist.P2POp(dist.irecv, into.t(), (rank - 1) % size),
]):
    work.wait()
assert into[1, 1].item() == (rank - 1) % size
"""


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_file_is_enough(well):
    well(3, "meet()" + USE)


def test_no_library_of_mpi_is_needed(well):
    well(2, "meet()" + USE, {"MPI4PY_LIBMPI": "/no/such/library", "LD_PRELOAD": ""})


def test_a_store_of_tcp_is_enough(well, port):
    well(
        3,
        f"""
store = dist.TCPStore("127.0.0.1", {port}, size, is_master=rank == 0)
dist.init_process_group("mooncake_mpi", store=store, rank=rank, world_size=size)
{USE}
dist.barrier()
dist.destroy_process_group()
dist.init_process_group("mooncake_mpi", store=store, rank=rank, world_size=size)
{USE}
""",
    )


def test_the_variables_of_torchrun_are_enough(well, port):
    well(
        2,
        f"""
os.environ |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT="{port}", RANK=str(rank), WORLD_SIZE=str(size))
dist.init_process_group("mooncake_mpi")
{USE}
""",
    )


def test_a_store_of_this_process_is_enough_for_one(well):
    well(
        1,
        """
dist.init_process_group("mooncake_mpi", store=dist.HashStore(), rank=0, world_size=1)
total = torch.ones(3)
dist.all_reduce(total)
works = [dist.group.WORLD.recv_anysource([total], 1), dist.group.WORLD.send([total + 1], 0, 1)]
for work in works:
    work.wait()
assert total.tolist() == [2, 2, 2]
""",
    )


def spawned(rank, size, folder, kept):
    import mooncake_mpi.torch  # noqa: F401

    torch.set_num_threads(1)
    dist.init_process_group(
        "mooncake_mpi", init_method=f"file://{folder}/store", rank=rank, world_size=size
    )
    into = torch.zeros(1_000_000)
    if rank:
        dist.isend(torch.ones(1_000_000), 0)  # and the process ends
    else:
        time.sleep(0.5)
        for _ in range(size - 1):
            dist.recv(into)
            kept += into[-1]
    assert "mpi4py" not in sys.modules


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_processes_of_multiprocessing(tmp_path, method):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch, torch.multiprocessing
from test_start import spawned
if __name__ == "__main__":
    kept = torch.zeros(1).share_memory_()
    torch.multiprocessing.start_processes(spawned, (3, {str(tmp_path)!r}, kept), 3, start_method={method!r})
    assert kept.item() == 2, kept
"""
    program = tmp_path / "parent.py"
    program.write_text(script)
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr


def test_groups_come_and_go_and_are_made_again(well):
    well(
        3,
        f"""
meet()
{USE}
every = [dist.new_group([0, 2]), dist.new_group([1, 2]), dist.new_group()]
for group, members in zip(every, ([0, 2], [1, 2], [0, 1, 2])):
    if rank in members:
        total = torch.ones(1)
        dist.all_reduce(total, group=group)
        assert total.item() == len(members)
for group, members in zip(every, ([0, 2], [1, 2], [0, 1, 2])):
    if rank in members:
        dist.destroy_process_group(group)
for _ in range(3):
    dist.barrier()
    dist.destroy_process_group()
    store = dist.FileStore(folder + "/again", size)
    dist.init_process_group("mooncake_mpi", store=store, rank=rank, world_size=size)
    {USE.replace(chr(10), chr(10) + "    ")}
""",
    )


def test_a_group_beside_one_of_gloo(well):
    well(
        2,
        """
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
ours = dist.new_group(backend="mooncake_mpi")
total = torch.ones(2)
dist.all_reduce(total, group=ours)
assert total.tolist() == [2, 2]
""",
    )


def test_who_has_not_come_is_named(well):
    (first, second, *_) = well(
        4,
        """
if rank < 2:
    together = dist.FileStore(folder + "/together", 2)
    together.set(str(rank), "")
    together.wait(["0", "1"], timedelta(seconds=60))
    print(told(meet, 3))
""",
    )
    for output in (first, second):
        assert "group '0' cannot be made: ranks 2, 3 of 4 did not come within 3 s" in output


def test_a_rank_that_cannot_start_is_named_by_all(well):
    outputs = well(
        3,
        """
if rank == 1:
    os.environ["MOONCAKE_MPI_SPIN_US"] = "many"
print(told(meet, 60))
""",
    )
    for output in outputs:
        assert "group '0' cannot be made: rank 1: ConfigError: MOONCAKE_MPI_SPIN_US" in output


def test_ranks_of_another_version_are_named_by_all(well):
    outputs = well(
        2,
        """
from mooncake_mpi.torch import meeting
exchange = meeting.Meeting.exchange
def of_another_version(self, entry):
    if rank == 1 and len(entry) == 32:
        entry = entry[:4] + (int.from_bytes(entry[4:6], "little") + 1).to_bytes(2, "little") + entry[6:]
    return exchange(self, entry)
meeting.Meeting.exchange = of_another_version
print(told(meet, 60))
""",
    )
    for output in outputs:
        assert "different versions" in output
        assert "rank 1: " in output


@pytest.mark.parametrize("way", ["pass", "sys.exit(0)", "raise SystemExit"])
def test_what_was_sent_arrives_though_its_sender_ends(well, way):
    _, received = well(
        2,
        f"""
meet()
if rank == 0:
    for nbytes in (8, 100_000, 20_000_000):
        dist.isend(torch.full((nbytes,), 7, dtype=torch.uint8), 1)
    {way}
else:
    time.sleep(1)
    for nbytes in (8, 100_000, 20_000_000):
        into = torch.zeros(nbytes, dtype=torch.uint8)
        dist.recv(into, 0)
        assert (into == 7).all()
    print("received")
""",
    )
    assert "received" in received


def test_a_dead_rank_is_an_error(ranks):
    ended = ranks(
        3,
        """
meet()
dist.barrier()
if rank == 2:
    os.kill(os.getpid(), signal.SIGKILL)
into = torch.zeros(3)
print(told(dist.recv, into, 2, tag=5))
print(told(dist.all_reduce, torch.ones(100_000)))
partner = 1 - rank
works = [dist.isend(torch.ones(3), partner), dist.irecv(into, partner)]
for work in works:
    work.wait()
print(into.tolist())
""",
    )
    for one in ended[:2]:
        assert one.status == 0, one.output
        lines = one.output.splitlines()
        assert "recv of group '0', from rank 2, tag 5: MPI_ERR_PROC_FAILED" in lines[0]
        assert "all_reduce of group '0', operation 2: " in lines[1]
        assert lines[2] == "[1.0, 1.0, 1.0]"


def test_a_program_that_loads_mpi_later_goes_on(well):
    well(
        2,
        f"""
meet()
{USE}
from mooncake_mpi import MPI
assert MPI.COMM_WORLD.Get_size() == 1
{USE}
assert MPI.COMM_WORLD.sendrecv(5, 0, 0, source=0) == 5
""",
        epilogue="",
    )
