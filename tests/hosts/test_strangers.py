"""Those who are no part of a job may call its ranks as they like: they are let in nowhere, and the job goes on."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path

import pytest
from hosted import Server
from programs import PORTS, PRELUDE

HERE = Path(__file__).parent
HANDSHAKE_BYTES = 80 + 40 + 8  # a call, a proof and what the connection is for

JOB = (
    PRELUDE
    + """
exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before, memory = len(os.listdir("/proc/self/fd")), resident()
tell("ready")
turns, longest = exchange(1 - rank, lambda: (folder / "enough").exists())
end([0, 1], turns=turns, longest=longest, more=len(os.listdir("/proc/self/fd")) - before,
    grown=resident() - memory)
"""
)

RATES = (
    PRELUDE
    + """
small = np.zeros(8, np.uint8)
smalls = [np.zeros(8, np.uint8) for _ in range(64)]
def window():
    begin = comm.Isend if rank == 0 else comm.Irecv
    MPI.Request.Waitall([begin(each, 1 - rank) for each in smalls])
    comm.Sendrecv(small, 1 - rank, 5, np.zeros(8, np.uint8), 1 - rank, 5)
exchange(1 - rank, lambda turns=iter(range(100)): next(turns) == 12)
rates = {"quiet": [], "elsewhere": [], "flood": []}
def phase():
    try:
        return (folder / "phase").read_text()
    except OSError:
        return "quiet"
tell("ready")
over = np.zeros(1)
while not over[0]:
    what = phase()
    began = time.monotonic()
    for _ in range(50):
        window()
    if what == phase():
        rates[what].append(50 * 64 / (time.monotonic() - began))
    mine = np.array([float((folder / "enough").exists())])
    comm.Sendrecv(mine, 1 - rank, 6, over, 1 - rank, 6)
    over[0] = max(over[0], mine[0])
end([0, 1], rates=rates)
"""
)


class Played:
    """A job over host0 and host1, with a third host on the same network."""

    def __init__(self, hosts, folder, text):
        self.hosts = hosts
        self.told = folder / "told"
        self.told.mkdir()
        path = folder / "program.py"
        path.write_text(text)
        sniffer = [str(HERE / "listen_in.py"), *map(str, PORTS), str(HANDSHAKE_BYTES)]
        # whoever calls is heard where it calls
        self._sniffers = [Server(hosts, name, *sniffer, program="") for name in hosts.names[:2]]
        self.job, self.output = hosts.start_job(
            2,
            path,
            environment={
                "TOLD_FOLDER": str(self.told),
                "MOONCAKE_MPI_TCP_PORTS": f"{PORTS[0]}-{PORTS[1]}",
            },
        )
        self.wait_for("ready-0")
        self.wait_for("ready-1")

    def wait_for(self, name):
        deadline = time.monotonic() + 60
        while not (self.told / name).exists():
            assert time.monotonic() < deadline, self.shown()
            time.sleep(0.02)

    def shown(self):
        self.output.seek(0)
        return self.output.read()

    def recorded(self):
        """What a rank said to the other when it called."""
        while True:
            for sniffer in self._sniffers:
                if sniffer.process.ended(0.05):
                    return json.loads(sniffer.lines.readline())

    def stranger(self, kind, address, seconds, text="", version=1):
        words = [sys.executable, str(HERE / "stranger.py"), kind, address, *map(str, PORTS)]
        try:
            shown = self.hosts.run(
                "host2", [*words, str(seconds)], text=text, variables={"WIRE_VERSION": str(version)}
            )
        except RuntimeError as error:
            raise RuntimeError(f"{error}; the job: {self.shown()}") from error
        return json.loads(shown.stdout)

    def finish(self):
        """What each rank told."""
        (self.told / "enough").touch()
        for rank in (0, 1):
            self.wait_for(f"result-{rank}")
        return [json.loads((self.told / f"result-{rank}").read_text()) for rank in (0, 1)]


@pytest.fixture
def play(make_hosts, tmp_path):
    return lambda text: Played(make_hosts(3), tmp_path, text)


@pytest.mark.ours
def test_no_stranger_is_let_in_and_the_job_goes_on(play):
    job = play(JOB)
    recorded = job.recorded()
    said = bytes.fromhex(recorded["said"])
    assert said[:4] == b"MMHS"
    version = int.from_bytes(said[4:6], "little")
    address = recorded["address"]
    seconds = 10 if "MOONCAKE_MPI_TEST_LONG" in os.environ else 1.5
    for kind in ("garbage", "zeros", "half", "other_version", "other_secret", "crowd", "flood"):
        result = job.stranger(kind, address, seconds, version=version)
        assert result["made"] > 3, kind
        assert result["told"] == 0, kind
    assert job.stranger("replay", address, 1, text=recorded["said"])["told"] == 0
    for told in job.finish():
        assert told["turns"] > 20
        assert told["longest"] < 20
        assert told["more"] <= 64  # strangers may still be there, for two seconds
        assert told["grown"] < 20 << 20
    assert len(job.shown().splitlines()) < 40, "strangers fill the log"


@pytest.mark.ours
def test_a_thousand_strangers_a_second_leave_the_job_its_rate(play):
    job = play(RATES)
    address = job.recorded()["address"]
    phase = job.told / "phase"
    for _ in range(5):
        time.sleep(1)
        phase.write_text("elsewhere")
        job.stranger("elsewhere", address, 1)
        phase.write_text("flood")
        flooded = job.stranger("flood", address, 1)
        phase.unlink()
    rates = {name: statistics.median(each) for name, each in job.finish()[0]["rates"].items()}
    alone = rates["flood"] / rates["quiet"]
    beside = rates["flood"] / rates["elsewhere"]
    print(
        f"with {flooded['rate']:.0f} strangers a second: {alone:.2f} of the quiet rate,"
        f" {beside:.2f} of that while they call a port where nobody listens"
    )
    # where there is no processor to spare, the strangers' own programs take it from the ranks
    assert beside > 0.4
