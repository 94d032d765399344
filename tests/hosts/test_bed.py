"""What every other test here stands on: hosts that reach each other, and a network that does as it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bed
import pytest
import remote
from bed import Bed, BedError, Network
from hosted import TALK, Server
from jobs import is_alive

NAMESPACE = "import os; print(os.stat('/proc/self/ns/net').st_ino)"


def ask(hosts, host, address, timeout=5):
    answer = hosts.run(host, [sys.executable, TALK, "ask", address, str(timeout)]).stdout.split()
    return float(answer[1]) if answer[0] == "yes" else None


@pytest.fixture
def served(hosts):
    """Both hosts, with an echo in host1."""
    Server(hosts, "host1", "serve")
    return hosts


@pytest.mark.parametrize("address", ["host1", "10.77.0.2", "fd77::2"])
def test_hosts_reach_each_other_by_name_and_by_both_kinds_of_address(served, address):
    assert ask(served, "host0", address) is not None


def test_a_host_has_its_own_name_interfaces_processes_and_shared_memory(hosts):
    shown = [
        hosts.python(
            name,
            "import os, socket, tempfile; from pathlib import Path\n"
            "Path('/dev/shm/mine').write_text('')\n"
            "print(socket.gethostname(), sorted(os.listdir('/sys/class/net')), os.getpid() < 1000,"
            " tempfile.gettempdir(), sorted(os.listdir('/dev/shm')))",
        )
        for name in hosts.names
    ]
    assert [line.split()[0] for line in shown] == ["host0", "host1"]
    assert "['eth0', 'lo'] True /dev/shm/tmp" in shown[0]
    assert not Path("/dev/shm/mine").exists()
    namespaces = {hosts.python(name, NAMESPACE.replace("net", "pid")) for name in hosts.names}
    assert len(namespaces) == 2


def test_the_status_output_and_variables_of_a_program_come_back(hosts):
    command = ["/bin/sh", "-c", "cat; echo $WORD $HOSTNAME; exit 7"]
    ended = hosts.run("host1", command, text="in ", variables={"WORD": "w"}, check=False)
    assert (ended.returncode, ended.stdout) == (7, "in w host1\n")
    assert hosts.run("host0", ["/no/such"], check=False).returncode == 127
    killed = hosts.run("host0", ["/bin/sh", "-c", "kill -9 $$"], check=False)
    assert killed.returncode == -signal.SIGKILL


def test_a_program_that_nobody_waits_for_any_more_ends(hosts):
    process = hosts.start("host0", ["sleep", "1000"])
    assert not process.ended(0.1)
    process.hang_up()
    await_count(hosts, "host0", "sleep", 0)


def test_a_cleared_host_runs_nothing_and_goes_on(hosts):
    hosts.run("host0", ["/bin/sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"])
    await_count(hosts, "host0", "sleep", 1)
    hosts.clear()
    await_count(hosts, "host0", "sleep", 0)
    assert hosts.run("host0", ["echo", "still"]).stdout == "still\n"


def await_count(hosts, host, name, number):
    """Until so many processes of a host have this name."""
    text = (
        "import glob, sys\n"
        "names = []\n"
        "for path in glob.glob('/proc/[0-9]*/stat'):\n"
        "    try: fields = open(path).read()\n"
        "    except OSError: continue\n"
        "    if fields.rpartition(')')[2].split()[0] != 'Z': names.append(fields.split('(')[1].split(')')[0])\n"
        "print(names.count(sys.argv[1]))"
    )
    deadline = time.monotonic() + 20
    while int(hosts.python(host, text, name)) != number:
        assert time.monotonic() < deadline, f"not {number} of {name} in {host}"


def test_a_cut_is_silence_and_is_healed(served):
    served.cut("host0", "host1")
    assert ask(served, "host0", "host1", 1) is None
    served.heal("host0", "host1")
    assert ask(served, "host0", "host1") is not None
    served.heal("host0", "host1")  # once more does no harm


def test_a_connection_outlives_a_cut(hosts):
    Server(hosts, "host1", "serve")
    held = Server(hosts, "host0", "hold", "host1")
    assert held.first == "connected"
    hosts.cut("host0")
    assert not held.process.ended(1)
    hosts.heal("host0")
    assert not held.process.ended(1)


def test_a_cut_is_between_two_hosts_and_leaves_the_third_alone(make_hosts):
    hosts = make_hosts(3)
    Server(hosts, "host1", "serve")
    hosts.cut("host0", "host1")
    assert ask(hosts, "host0", "host1", 1) is None
    assert ask(hosts, "host2", "host1") is not None


def test_an_unplugged_host_is_reached_again_by_the_same_addresses(served):
    served.unplug("host0")
    assert ask(served, "host0", "host1", 1) is None
    served.plug("host0")
    assert ask(served, "host0", "10.77.0.2") is not None
    assert ask(served, "host0", "fd77::2") is not None


def test_reset_connections_end_at_both_sides(hosts):
    Server(hosts, "host1", "serve")
    held = Server(hosts, "host0", "hold", "host1")
    assert hosts.reset_connections("host1") == 1
    assert held.lines.readline().strip() == "ConnectionResetError"


@pytest.mark.parametrize("milliseconds", [5, 50])
def test_a_delay_is_as_asked(make_hosts, milliseconds):
    hosts = make_hosts(2, Network(delay_us=milliseconds * 1000))
    Server(hosts, "host1", "serve")
    for address in ("10.77.0.2", "fd77::2"):
        took = ask(hosts, "host0", address)
        assert took is not None
        assert 2 * milliseconds <= took * 1000 < 2 * milliseconds + 25


def test_losses_are_as_asked(make_hosts):
    hosts = make_hosts(2, Network(loss=0.1))
    hosts.run("host0", [sys.executable, TALK, "flood", "host1", "2000"])
    rules = hosts.run("host1", ["nft", "list", "table", "netdev", "losses"]).stdout
    assert 100 < int(rules.split("packets ")[1].split()[0]) < 350


def test_a_rate_is_as_asked(make_hosts):
    hosts = make_hosts(2, Network(rate="20mbit"))
    Server(hosts, "host1", "serve")
    size = 4 << 20
    took = float(hosts.run("host0", [sys.executable, TALK, "push", "host1", str(size)]).stdout)
    assert took > 0.5 * size * 8 / 20e6


def test_a_host_name_can_mean_127_0_1_1_to_itself(make_hosts):
    hosts = make_hosts(2, Network(loopback_names=True))
    text = "import socket; print(*sorted({a[4][0] for a in socket.getaddrinfo('host0', None)}))"
    assert hosts.python("host0", text) == "127.0.1.1\n"
    assert hosts.python("host1", text) == "10.77.0.1 fd77::1\n"


# ---- nothing is left behind


def namespaces_of_others():
    """The network namespaces of all processes that this one sees, by number, with a process of each."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found[path.stat().st_ino] = int(path.parts[2])
        except OSError:
            continue
    return found


def left_of(namespaces, folder):
    """What is still there of a bed that has gone."""
    mounts = Path("/proc/self/mountinfo").read_text()
    return (namespaces & set(namespaces_of_others()), folder.exists(), str(folder) in mounts)


def test_nothing_is_left_of_a_bed():
    interfaces = sorted(os.listdir("/sys/class/net"))
    with Bed(2, Network(delay_us=1000)) as made:
        for name in made.names:
            made.run(name, ["/bin/sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"])
        run = [sys.executable, "-c", NAMESPACE]
        namespaces = {int(made.run(name, run).stdout) for name in made.names}
        assert namespaces <= set(namespaces_of_others())
        folder = made.folder
    assert left_of(namespaces, folder) == (set(), False, False)
    assert sorted(os.listdir("/sys/class/net")) == interfaces


KILLED = """
import sys, time
sys.path[:0] = [sys.argv[1]]
from bed import Bed, Network
made = Bed(2, Network(delay_us=int(sys.argv[2]))).__enter__()
for name in made.names:
    made.run(name, ["/bin/sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"])
print(made.folder, *(made.run(name, [sys.executable, "-c", sys.argv[3]]).stdout.strip() for name in made.names), flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("delay_us", [0, 1000])
def test_nothing_lives_after_the_owner_was_killed_and_the_next_bed_removes_its_folder(delay_us):
    words = [str(Path(bed.__file__).parent), str(delay_us), NAMESPACE]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *words], stdout=subprocess.PIPE, text=True
    ) as owner:
        folder, *namespaces = owner.stdout.readline().split()
        owner.kill()
    folder = Path(folder)
    namespaces = set(map(int, namespaces))
    deadline = time.monotonic() + 20
    while namespaces & set(namespaces_of_others()):
        assert time.monotonic() < deadline, "a host lives on"
        time.sleep(0.02)
    old = time.time() - 2 * bed.YOUNG_SECONDS
    os.utime(folder, (old, old))
    with Bed(1) as made:
        assert not folder.exists()
        old_but_alive = made.folder
        os.utime(old_but_alive, (old, old))
        with Bed(1):
            assert old_but_alive.exists()


def test_a_process_without_the_capabilities_gets_one_line(monkeypatch):
    monkeypatch.setattr(bed, "missing_capabilities", lambda: ["CAP_NET_ADMIN"])
    with pytest.raises(BedError, match=r"need CAP_NET_ADMIN: run it as root$"):
        Bed(1).__enter__()


def test_a_host_that_is_gone_is_an_error_and_no_wait(make_hosts):
    hosts = make_hosts(2)
    process = hosts.start("host0", ["sleep", "1000"])
    hosts.hosts[0].process.kill()
    with pytest.raises(ConnectionError, match="host0 is gone"):
        process.wait(20)
    assert not is_alive(hosts.hosts[0].process.pid)
    with pytest.raises(OSError, match=r"."):
        remote.run(hosts.folder, "host0", ["true"])
