"""A job that hangs says why: when it is asked, when it is signalled, and after a timeout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from jobs import REPOSITORY, kill_all, start
from rank_programs import PRELUDE

# Each rank waits for another one, and rank 3 for nobody.
CIRCLE = """
comm.Send(np.zeros(3), (rank + 1) % size, 77)
comm.Barrier()
tell("ready", os.getpid())
if rank == 0:
    comm.Send(np.zeros(1_000_000), 1, 9)
elif rank == 1:
    comm.Recv(np.zeros(100), 2, 5)
elif rank == 2:
    MPI.Request.Waitall([comm.Irecv(np.zeros(100), 0, 3)])
time.sleep(60)
"""


@pytest.fixture
def hanging(tmp_path):
    """A job whose first three ranks wait in a circle, and the processes by rank."""
    path = tmp_path / "program.py"
    path.write_text(PRELUDE + CIRCLE)
    process, output = start(4, path, environment={"FAULTS_FOLDER": str(tmp_path)})
    with output:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("ready-*"))) < 4:
            assert time.monotonic() < deadline, "the job did not start"
            assert process.poll() is None, output.seek(0) or output.read()
            time.sleep(0.05)
        time.sleep(1)
        pids = [int((tmp_path / f"ready-{rank}").read_text()) for rank in range(4)]

        def said():
            output.seek(0)
            return output.read()

        try:
            yield pids, said
        finally:
            kill_all(process)


def check_circle(text):
    line = next(line for line in text.splitlines() if "these wait for each other" in line)
    assert "rank 0 waits in Send for rank 1 to receive 8000000 bytes with tag 9" in line
    assert "rank 1 waits in Recv for a message from rank 2 with tag 5" in line
    assert "rank 2 waits in Waitall for a message from rank 0 with tag 3 (up to 800 bytes)" in line
    assert "rank 3" not in line


def doctor(pids):
    command = [sys.executable, "-m", "mooncake_mpi", "doctor", "--hang", *map(str, pids)]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_doctor_says_what_each_rank_waits_for_also_of_one_that_is_stopped(hanging):
    pids, said = hanging
    before = said()
    found = doctor(pids)
    assert found.returncode == 0, found.stderr
    check_circle(found.stdout)
    assert f"rank 3 (process {pids[3]}) is in no call that waits" in found.stdout
    assert "posted receives: 1\n    from rank 2, tag 5, MPI_COMM_WORLD" in found.stdout
    assert "from rank 0, tag 77, 24 bytes, MPI_COMM_WORLD" in found.stdout

    os.kill(pids[1], signal.SIGSTOP)
    found = doctor(pids)
    os.kill(pids[1], signal.SIGCONT)
    check_circle(found.stdout)
    assert f"rank 1 (process {pids[1]}) does not answer\n  in Recv for" in found.stdout
    assert said() == before, "it writes into no output but its own"


ELSEWHERE = """
comm.Barrier()
tell("ready", os.getpid())
if rank == 0:
    time.sleep(60)
elif rank == 1:
    comm.Barrier()
else:
    comm.Recv(np.zeros(rank), 0, 4)
time.sleep(60)
"""


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the job did not start"
        assert process.poll() is None
        time.sleep(0.05)


def test_the_doctor_tells_jobs_apart_and_ranks_that_are_in_the_mpi_library(tmp_path):
    jobs = []
    try:
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / f"{name}.py").write_text(PRELUDE + ELSEWHERE)
            environment = {"FAULTS_FOLDER": str(folder)}
            process, output = start(3, folder / f"{name}.py", environment=environment)
            jobs.append((process, output, folder))
            wait_for(lambda folder=folder: len(list(folder.glob("ready-*"))) == 3, process)
        time.sleep(1)
        pids = [
            [int((folder / f"ready-{rank}").read_text()) for rank in range(3)]
            for _, _, folder in jobs
        ]
        found = doctor([pid for of_job in pids for pid in of_job])
        for _, output, _ in jobs:
            output.seek(0)
            assert "mooncake_mpi: rank" not in output.read()
    finally:
        for process, output, _ in jobs:
            kill_all(process)
            output.close()
    parts = ["job " + part for part in found.stdout.split("job ") if part]
    assert len(parts) == 2, found.stdout
    for name, of_job in zip(("first", "second"), pids, strict=True):
        part = next(part for part in parts if f"{name}.py" in part)
        assert f"rank 0 (process {of_job[0]}) is in no call that waits\n" in part
        assert f"rank 1 (process {of_job[1]}) is in the MPI library (MPI_Barrier)\n" in part
        assert (
            f"rank 2 (process {of_job[2]}) waits\n  in Recv for a message from rank 0 with tag 4"
            in part
        )
        assert not any(
            f"(process {pid})" in part for other in pids if other is not of_job for pid in other
        )


def test_the_report_names_a_message_that_is_in_the_mpi_library(survive):
    results = survive(
        2,
        """
from mpi4py import MPI as library
if rank == 0:
    library.COMM_WORLD.Isend(b"abc", 1, 5)
    comm.Barrier()
else:
    texts = []
    for call in (
        lambda: comm.Recv(bytearray(3), 0, 5),
        lambda: comm.probe(),
        lambda: MPI.Request.Waitany([comm.Irecv(bytearray(3), 0, 9), comm.Irecv(bytearray(3))]),
        lambda: comm.Recv(bytearray(3), 0, 6),
    ):
        try:
            call()
        except MPI.Exception as error:
            texts.append(str(error))
    library.COMM_WORLD.Recv(bytearray(3), 0, 5)
    comm.Barrier()
    end([1], texts=texts)
os._exit(0)
""",
        survivors=[1],
        environment={"MOONCAKE_MPI_TIMEOUT_S": "1.5"},
    )
    texts = results[1]["texts"]
    hint = "one from rank 0 with tag 5 (3 bytes) waits in the MPI library, which its sender called"
    assert [hint in text for text in texts] == [True, True, True, False], texts


def test_a_signal_makes_each_rank_say_what_it_waits_for(hanging):
    pids, said = hanging
    for pid in reversed(pids):
        os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + 20
    while "these wait" not in said() or said().count("(process ") < 4:
        assert time.monotonic() < deadline, said()
        time.sleep(0.05)
    check_circle(said())
    for pid in pids:
        assert f"(process {pid})" in said()


def test_the_doctor_says_when_there_is_nothing_to_look_at():
    found = doctor([os.getpid()])
    assert found.returncode == 1
    assert "no process" in found.stderr


def test_a_timeout_raises_in_every_blocking_call_and_a_stopped_process_is_not_dead(survive):
    results = survive(
        2,
        """
into, large = np.zeros(10), np.zeros(100_000)
comm.Barrier()
if rank == 1:
    # Stopped for a while by a child, and then as good as ever.
    if os.fork() == 0:
        os.kill(os.getppid(), signal.SIGSTOP)
        while not (folder / "raised-0").exists():
            time.sleep(0.02)
        os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)
    comm.Recv(large, 0, 1)
    comm.Send(into, 0, 2)
    end([0, 1], failed=comm.Get_failed().Get_size())
time.sleep(0.3)
request = comm.Irecv(into, 1, 2)
sending = comm.Isend(large, 1, 1)
def timed(call, *args, **kwargs):
    started = time.monotonic()
    try:
        call(*args, **kwargs)
    except MPI.Exception as error:
        return [error.Get_error_class() == MPI.ERR_PENDING, str(error), time.monotonic() - started]
calls = [timed(comm.Recv, into, 1, 3), timed(comm.Ssend, into, 1, 4), timed(sending.Wait),
         timed(request.Wait), timed(MPI.Request.Waitall, [request]),
         timed(MPI.Request.Waitany, [request]), timed(comm.Probe, 1, 6),
         timed(comm.recv, source=MPI.ANY_SOURCE, tag=7)]
tell("raised")
finished = [caught(sending.Wait), caught(request.Wait)]
end([0, 1], calls=calls, finished=finished, failed=comm.Get_failed().Get_size())
""",
        survivors=[0, 1],
        environment={"MOONCAKE_MPI_TIMEOUT_S": "0.5"},
    )
    for right_class, text, seconds in results[0]["calls"]:
        assert right_class
        assert "timeout" in text
        assert "waits" in text
        assert seconds > 0.4
    assert "in Recv for a message from rank 1 with tag 3" in results[0]["calls"][0][1]
    assert results[0]["finished"] == [None, None]
    assert results[0]["failed"] == results[1]["failed"] == 0


@pytest.mark.parametrize(
    ("disposition", "first"), [("signal.SIG_IGN", True), ("lambda *_: tell('mine')", False)]
)
def test_a_program_keeps_its_own_handling_of_the_signal(survive, disposition, first):
    handle = f"import signal\nsignal.signal(signal.SIGUSR1, {disposition})\n"
    results = survive(
        2,
        f"""
{"" if first else handle}
comm.Dup().Free()
comm.Barrier()
os.kill(os.getpid(), signal.SIGUSR1)
comm.Barrier()
end([0, 1], mine=(folder / f"mine-{{rank}}").exists())
""",
        survivors=[0, 1],
        before=handle if first else "",
    )
    assert results[0]["mine"] == results[1]["mine"] == ("lambda" in disposition)
    assert "mooncake_mpi: rank" not in results["output"]
