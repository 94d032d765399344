"""The benchmark command measures, verifies and reports, and refuses options that make no sense."""

from __future__ import annotations

import json

import pytest
from jobs import run

QUICK = ["--iterations", "20", "--warmup", "2", "--repeats", "2"]


def bench(ranks, *arguments):
    return run(ranks, "-m", "mooncake_mpi", "bench", *arguments)


@pytest.mark.parametrize("command", ["latency", "bandwidth"])
def test_a_table_has_a_row_for_each_size_and_the_ratio(tmp_path, command):
    path = tmp_path / "result.json"
    outcome = bench(2, command, "--sizes", "0,8,100K", *QUICK, "--json", path)
    assert outcome.returncode == 0, outcome.output
    for text in ("8 B", "100 KiB", "ratio", "mooncake_mpi", "p10"):
        assert text in outcome.output
    result = json.loads(path.read_text())
    assert result["benchmark"] == command
    rows = result["table"]["rows"]
    assert [row["label"] for row in rows] == ["0 B", "8 B", "100 KiB"]
    for row in rows[1:]:
        assert len(row["statistics"]) == 2
        for statistics in row["statistics"]:
            assert 0 < statistics["p10"] <= statistics["median"] <= statistics["p90"]
            assert statistics["count"] == 20


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_the_ring_runs_on_any_number_of_ranks(ranks):
    outcome = bench(ranks, "ring", "--messages", "200", "--repeats", "2")
    assert outcome.returncode == 0, outcome.output
    assert f"{ranks} ranks" in outcome.output


def test_matching_shows_both_queues():
    outcome = bench(2, "matching", "--outstanding", "1,50", *QUICK)
    assert outcome.returncode == 0, outcome.output
    for text in ("1 posted", "50 posted", "1 unexpected", "50 unexpected"):
        assert text in outcome.output


def test_against_none_measures_ours_alone():
    outcome = bench(2, "latency", "--sizes", "8", *QUICK, "--against", "none")
    assert outcome.returncode == 0, outcome.output
    assert "ratio" not in outcome.output


@pytest.mark.parametrize(
    ("ranks", "arguments", "expected"),
    [
        (2, ["latency", "--sizes", "1x"], "--sizes"),
        (2, ["latency", "--sizes", "64M:1"], "--sizes"),
        (2, ["latency", "--repeats", "0"], "--repeats"),
        (2, ["bandwidth", "--window", "-1"], "--window"),
        (2, ["matching", "--outstanding", "few"], "--outstanding"),
        (2, ["latency", "--json", "/no/such/folder/file.json"], "--json"),
        (2, ["latency", "--colour"], "--colour"),
        (2, ["speed"], "speed"),
        (2, [], "latency"),
        (3, ["latency"], "2 ranks"),
        (1, ["bandwidth"], "2 ranks"),
        (2, ["ring", "--messages", "none"], "--messages"),
    ],
)
def test_an_option_that_makes_no_sense_gives_one_line_that_says_which(ranks, arguments, expected):
    outcome = bench(ranks, *arguments)
    assert outcome.returncode != 0
    lines = [line for line in outcome.output.splitlines() if "mooncake_mpi bench:" in line]
    assert len(lines) == 1, outcome.output
    assert expected in lines[0]
    assert "Traceback" not in outcome.output
