"""The measurements between two hosts run, and make a table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import bench
import pytest
from jobs import mpirun


@pytest.mark.ours
def test_peers_take_turns_and_make_a_table(tmp_path):
    peers = ["ours", *(["sockets"] if shutil.which("iperf3") and shutil.which("cc") else [])]
    main = str(bench.HERE / "main.py")
    launcher = f"openmpi={sys.executable}:{mpirun()}"
    written = tmp_path / "samples.json"
    words = ["--rounds", "1", "--only", ",".join(peers), "--json", str(written)]
    measured = subprocess.run(
        [sys.executable, main, "bench", "--launcher", launcher, *words],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert measured.returncode == 0, measured.stderr
    samples = json.loads(written.read_text())
    assert list(samples) == peers
    for quantity in bench.QUANTITIES:
        assert f"| {quantity.title}, {quantity.unit} |" in measured.stdout
        for taken in samples.values():
            assert taken[0][quantity.name] > 0


def test_the_table_has_medians_and_how_the_first_compares():
    numbers = {quantity.name: 2.0 for quantity in bench.QUANTITIES}
    samples = {
        "ours": [dict(numbers, rate=rate) for rate in (1000.0, 3000.0, 2000.0)],
        "gloo": [dict(numbers, rate=500.0)] * 3,
    }
    lines = bench.markdown(samples, {"ours": "A", "gloo": "B"}).splitlines()
    assert lines[0] == "|  | A | B |"
    row = next(line for line in lines if "messages/s" in line)
    assert row.endswith("| 2,000 (1,000 - 3,000) | 500 (500 - 500); 4.00 |")


def test_a_peer_that_fails_is_left_out_of_the_rest(capsys):
    turns = iter([{"rate": 1.0}])

    def failing():
        try:
            return next(turns)
        except StopIteration:
            raise RuntimeError("no more") from None

    taken = bench.collect({"good": lambda: {"rate": 2.0}, "bad": failing}, 3)
    assert list(taken) == ["good"]
    assert "bad: left out: no more" in capsys.readouterr().err
