"""The benchmark command measures, verifies and reports, and refuses options that make no sense."""

from __future__ import annotations

import json
import os
from pathlib import Path

import fake_cuda
import pytest
from jobs import run

TESTS = Path(__file__).parents[2]

QUICK = ["--iterations", "20", "--warmup", "2", "--repeats", "2"]


def bench(ranks, *arguments, **options):
    return run(ranks, "-m", "mooncake_mpi", "bench", *arguments, **options)


def bench_json(path, ranks, command, *arguments):
    """The JSON of a run that has succeeded, and its output."""
    outcome = bench(ranks, command, *arguments, "--json", path)
    assert outcome.returncode == 0, outcome.output
    result = json.loads(path.read_text())
    assert result["benchmark"] == command
    return result["table"], outcome.output


@pytest.mark.parametrize("command", ["latency", "bandwidth", "bibw"])
def test_a_table_has_a_row_for_each_size_and_the_ratio(tmp_path, command):
    table, output = bench_json(tmp_path / "x.json", 2, command, "--sizes", "0,8,100K", *QUICK)
    for text in ("8 B", "100 KiB", "ratio", "mooncake_mpi", "p10"):
        assert text in output
    rows = table["rows"]
    assert [row["label"] for row in rows] == ["0 B", "8 B", "100 KiB"]
    for row in rows[1:]:
        assert len(row["statistics"]) == 2
        for statistics in row["statistics"]:
            assert 0 < statistics["p10"] <= statistics["median"] <= statistics["p90"]
            assert statistics["count"] == 20


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("command", ["message-rate", "multi-latency"])
def test_pairs_of_ranks_are_measured_at_once(tmp_path, command, ranks):
    table, _ = bench_json(tmp_path / "x.json", ranks, command, "--sizes", "8", *QUICK)
    assert f"{ranks // 2} pair" in table["title"]
    (row,) = table["rows"]
    assert all(statistics["median"] > 0 for statistics in row["statistics"])


def test_overlap_is_a_part_of_the_transfer(tmp_path):
    quick = ["--iterations", "2", "--repeats", "1", "--sizes", "1M"]
    table, _ = bench_json(tmp_path / "x.json", 2, "overlap", *quick)
    assert [row["label"] for row in table["rows"]] == [
        f"1 MiB {call}, {compute}" for call in ("Isend", "Irecv") for compute in ("NumPy", "Python")
    ]
    for row in table["rows"]:
        assert all(0 <= statistics["median"] <= 100 for statistics in row["statistics"])


def test_memory_of_alloc_mem_is_measured_and_plotted(tmp_path):
    path = tmp_path / "plot.png"
    quick = ["--sizes", "0,8,70000", *QUICK]
    wanted = ["--memory", "alloc", "--plot", path, "--progress", *quick]
    terminal = {"TERM": "xterm"}  # a dumb one has no bar
    outcome = run(2, "-m", "mooncake_mpi", "bench", "latency", *wanted, environment=terminal)
    assert outcome.returncode == 0, outcome.output
    assert "memory alloc" in outcome.output
    assert "12/12" in outcome.output
    assert path.read_bytes().startswith(b"\x89PNG")


def test_torch_and_its_gloo_backend_are_measured(tmp_path):
    pytest.importorskip("torch")
    quick = ["--sizes", "8,64K", "--iterations", "3", "--repeats", "1", "--memory", "torch"]
    table, _ = bench_json(tmp_path / "x.json", 2, "latency", "--against", "mpi,gloo", *quick)
    assert (table["peers"][0], table["peers"][2]) == ("mooncake_mpi", "torch gloo")
    for row in table["rows"]:
        assert all(statistics["median"] > 0 for statistics in row["statistics"])


def test_arrays_of_a_gpu_are_measured_beside_the_bare_copies(tmp_path):
    stand_in = {  # of CuPy, on a libcuda that needs no GPU
        "PYTHONPATH": os.pathsep.join([str(TESTS / "gpu" / "stand_in"), str(TESTS)]),
        "MOONCAKE_MPI_CUDA_LIBRARY": str(fake_cuda.path()),
    }
    wanted = [
        "--device",
        "cuda",
        "--against",
        "cupy-nccl,copy",
        "--sizes",
        "8,4K",
        "--path",
        *QUICK,
    ]
    outcome = bench(2, "bandwidth", *wanted, "--json", tmp_path / "x.json", environment=stand_in)
    assert outcome.returncode == 0, outcome.output
    table = json.loads((tmp_path / "x.json").read_text())["table"]
    assert table["peers"] == ["mooncake_mpi", "copy engine"]
    assert "without cupy-nccl: cupy has no NCCL here" in outcome.output
    for row in table["rows"]:
        assert all(statistics["median"] > 0 for statistics in row["statistics"])
        assert row["path"].startswith("push")
        assert row["path"] in outcome.output


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
    outcome = bench(2, "latency", "--sizes", "8", *QUICK, "--against", "none", "--path")
    assert outcome.returncode == 0, outcome.output
    assert "ratio" not in outcome.output
    assert outcome.output.split("path")[1].split("2 ranks")[0].rstrip().endswith("eager")


@pytest.mark.parametrize(
    ("ranks", "arguments", "expected"),
    [
        (2, ["latency", "--sizes", "1x"], "--sizes"),
        (2, ["latency", "--colour"], "--colour"),
        (2, [], "latency"),
        (3, ["latency"], "2 ranks"),
        (3, ["multi-latency"], "even number of ranks"),
        (1, ["ring", "--memory", "numpy", "--device", "cuda"], "--device"),
        (2, ["latency", "--plot", "x.gif"], "--plot"),
    ],
)
def test_an_option_that_makes_no_sense_gives_one_line_that_says_which(ranks, arguments, expected):
    outcome = bench(ranks, *arguments)
    assert outcome.returncode == 2, outcome.output
    lines = [line for line in outcome.output.splitlines() if "mooncake_mpi bench:" in line]
    assert len(lines) == 1, outcome.output
    assert expected in lines[0]
    assert "Traceback" not in outcome.output
