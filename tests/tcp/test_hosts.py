"""Ranks of several hosts, as far as one machine can show them: TCP between hosts, shared memory within."""

from __future__ import annotations

import re


def test_ranks_of_a_host_share_memory_and_others_take_tcp(job):
    job(
        4,
        """
into = np.zeros(1, int)
for distance in range(size):
    comm.Sendrecv(np.array([rank]), (rank + distance) % size, 0, into, (rank - distance) % size, 0)
    assert into[0] == (rank - distance) % size
for other in range(size):
    near = "self" if other == rank else "shm"
    assert _native.lane_of(inner, other) == (near if other % 2 == rank % 2 else "tcp"), other
""",
    )


def test_wildcards_take_messages_of_both_lanes_in_the_order_of_each_sender(job):
    job(
        4,
        """
COUNT = 400
sizes = [1, 100, 3000, 20_000, 200_000, 1_500_000]
def length(source, turn):
    return sizes[(source + turn) % (len(sizes) if turn % 20 == 0 else 4)]
if rank == 0:
    seen = [0] * size
    into = np.zeros(1_500_000, np.uint8)
    status = MPI.Status()
    for _ in range(COUNT * (size - 1)):
        comm.Recv(into, MPI.ANY_SOURCE, MPI.ANY_TAG, status)
        source = status.Get_source()
        turn = seen[source]
        assert status.Get_tag() == turn and status.Get_count(MPI.BYTE) == length(source, turn)
        assert (into[: length(source, turn)] == (source * 50 + turn) % 251).all()
        seen[source] += 1
    assert seen[1:] == [COUNT] * (size - 1)
else:
    requests = []
    for turn in range(COUNT):
        data = np.full(length(rank, turn), (rank * 50 + turn) % 251, np.uint8)
        requests.append(comm.Isend(data, 0, turn))
    MPI.Request.Waitall(requests)
""",
        timeout=120,
    )


def test_everybody_calls_everybody_at_once(job):
    job(
        6,
        """
for turn in range(20):
    out = [np.full(1000, rank * 10 + turn, np.int64) for _ in range(size)]
    into = [np.zeros(1000, np.int64) for _ in range(size)]
    requests = [comm.Irecv(into[other], other, turn) for other in range(size)]
    requests += [comm.Isend(out[other], other, turn) for other in range(size)]
    MPI.Request.Waitall(requests)
    for other in range(size):
        assert (into[other] == other * 10 + turn).all()
""",
        hosts=6,
        timeout=120,
    )


def test_a_killed_rank_of_another_host_is_an_error_at_once(job):
    output = job(
        3,
        """
into = np.zeros(10)
comm.Sendrecv(np.zeros(10), (rank + 1) % 3, 0, into, (rank - 1) % 3, 0)
comm.Sendrecv(np.zeros(10), (rank - 1) % 3, 0, into, (rank + 1) % 3, 0)
comm.Barrier()
if rank == 2:
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
comm.Set_errhandler(MPI.ERRORS_RETURN)
start = time.monotonic()
try:
    comm.Recv(into, 2, 5)
except MPI.Exception as error:
    print(f"rank {rank}: {error.Get_error_class() == MPI.ERR_PROC_FAILED} {time.monotonic() - start < 3} {error}", flush=True)
if rank == 0:
    comm.Send(np.ones(10), 1, 6)
else:
    comm.Recv(into, 0, 6)
    assert (into == 1).all()
    print("and the others go on", flush=True)
os._exit(0)
""",
        hosts=3,
        returncode=None,
        fault_tolerant=True,
    )
    assert len(re.findall(r"rank [01]: True True", output)) == 2, output
    assert "and the others go on" in output, output


def test_a_rank_that_is_stopped_for_a_while_is_not_taken_to_be_gone(job):
    job(
        2,
        """
into = np.zeros(300_000)
pids = comm.allgather(os.getpid())
comm.Sendrecv(np.zeros(10), 1 - rank, 0, np.zeros(10), 1 - rank, 0)
if rank == 0:
    os.kill(pids[1], signal.SIGSTOP)
    requests = [comm.Isend(np.full(300_000, float(i)), 1, i) for i in range(3)]
    small = [comm.Isend(np.full(100, float(i)), 1, 10 + i) for i in range(500)]
    time.sleep(3)
    os.kill(pids[1], signal.SIGCONT)
    MPI.Request.Waitall(requests + small)
else:
    for i in range(3):
        comm.Recv(into, 0, i)
        assert (into == i).all()
    for i in range(500):
        comm.Recv(into[:100], 0, 10 + i)
        assert (into[:100] == i).all()
""",
        environment={"MOONCAKE_MPI_TCP_TIMEOUT_S": "1"},
    )


def test_what_was_sent_is_delivered_though_the_sender_ends_first(job):
    output = job(
        2,
        """
if rank == 0:
    for i in range(200):
        comm.Send(np.full(500, float(i)), 1, i)
    kept = comm.Isend(np.full(400_000, 7.0), 1, 999)
else:
    time.sleep(0.5)
    into = np.zeros(400_000)
    for i in range(200):
        comm.Recv(into[:500], 0, i)
        assert (into[:500] == i).all()
    comm.Recv(into, 0, 999)
    assert (into == 7).all()
    print("all of it", flush=True)
""",
    )
    assert "all of it" in output


def test_a_forked_child_keeps_no_connection_of_a_parent_that_dies(job):
    output = job(
        2,
        """
comm.Sendrecv(np.zeros(10), 1 - rank, 0, np.zeros(10), 1 - rank, 0)
comm.Barrier()
if rank == 1:
    if os.fork() == 0:
        time.sleep(8)
        os._exit(0)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
start = time.monotonic()
try:
    comm.Recv(np.zeros(10), 1, 5)
except MPI.Exception as error:
    print("heard", time.monotonic() - start < 5, flush=True)
os._exit(0)
""",
        returncode=None,
        fault_tolerant=True,
    )
    assert "heard True" in output, output


def test_a_waiting_rank_uses_no_processor(job):
    job(
        2,
        """
comm.Sendrecv(np.zeros(10), 1 - rank, 0, np.zeros(10), 1 - rank, 0)
if rank == 0:
    time.sleep(2)
    comm.Send(np.zeros(10), 1, 5)
else:
    before = time.process_time()
    comm.Recv(np.zeros(10), 0, 5)
    assert time.process_time() - before < 0.3, time.process_time() - before
""",
    )


def test_a_port_range_is_kept_to_and_one_without_a_free_port_is_named(job):
    text = """
try:
    comm.sendrecv(rank, 1 - rank, source=1 - rank)
    print("sent by", _native.route_to(inner, 1 - rank), flush=True)
except Exception as error:
    print("refused:", error, flush=True)
os._exit(0)
"""
    output = job(2, text, environment={"MOONCAKE_MPI_TCP_PORTS": "47310-47319"}, returncode=None)
    assert re.search(r"sent by .*:4731\d", output), output
    output = job(2, text, environment={"MOONCAKE_MPI_TCP_PORTS": "47320"}, returncode=None)
    assert "MOONCAKE_MPI_TCP_PORTS" in output, output
    assert "47320-47320" in output, output


def test_an_interface_that_is_not_there_is_named_with_those_that_are(job):
    output = job(
        2,
        """
try:
    comm.sendrecv(rank, 1 - rank, source=1 - rank)
except Exception as error:
    print("refused:", error, flush=True)
os._exit(0)
""",
        environment={"MOONCAKE_MPI_TCP_INTERFACES": "eth77"},
        returncode=None,
    )
    assert "eth77" in output, output
    assert "lo 127.0.0.1" in output, output


def test_without_descriptors_a_rank_waits_for_some(job):
    job(
        2,
        """
import resource, threading
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if rank == 0:
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    threading.Timer(1.0, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))).start()
comm.Sendrecv(np.zeros(10), 1 - rank, 0, np.zeros(10), 1 - rank, 0)
""",
    )
