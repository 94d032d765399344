"""Samples become statistics, tables, and plots."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import pytest
from matplotlib.figure import Figure

import mooncake_mpi
from mooncake_mpi.bench import overlap, paths, plot, progress, report, sampling, session, table
from mooncake_mpi.bench.options import BenchOptions
from mooncake_mpi.bench.sampling import Statistics, Trial
from mooncake_mpi.bench.table import Row, Table


def fixed(value):
    return Statistics(value, value * 0.9, value * 1.2, 10)


def make_table(sizes=(8, 1024, 1 << 20), peers=("mooncake_mpi", "Open MPI", "torch gloo")):
    rows = [
        Row(
            f"{size} B", tuple(fixed(size * (place + 1) / 100) for place in range(len(peers))), size
        )
        for size in sizes
    ]
    return Table("Latency", "size", "us", peers, higher_is_better=False, rows=tuple(rows))


def test_percentiles_lie_between_the_samples():
    statistics = sampling.statistics_of([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (statistics.median, statistics.count) == (3.0, 5)
    assert statistics.p10 == pytest.approx(1.4)
    assert statistics.p90 == pytest.approx(4.6)
    assert sampling.statistics_of([7.0]) == Statistics(7.0, 7.0, 7.0, 1)


@pytest.mark.parametrize(("iterations", "parts"), [(1, 1), (7, 7), (10, 10), (1234, 10)])
def test_iterations_are_split_without_loss(iterations, parts):
    pieces = sampling.split_count(iterations)
    assert sum(pieces) == iterations
    assert len(pieces) == parts
    assert min(pieces) >= 1


def test_trials_take_turns_and_warm_up_samples_are_left_out():
    calls = []

    def trial(name):
        def sample(count):
            calls.append((name, count))
            return float(count)

        return Trial(name, sample, [2, 3], warmup=9)

    starts = []
    samples = sampling.alternate([trial("A"), trial("B")], lambda: starts.append(1), repeats=2)
    assert [name for name, count in calls if count == 9] == ["A", "B", "A", "B"]
    assert samples == {"A": [2.0, 3.0, 2.0, 3.0], "B": [2.0, 3.0, 2.0, 3.0]}
    assert len(starts) == 4


@pytest.mark.parametrize(
    ("seconds", "each", "count"),
    [(0.3, 0.001, 300), (0.3, 1.0, 5), (0.3, 1e-9, 1000), (0.3, 0, 1000)],
)
def test_a_turn_holds_what_fits_into_its_time(seconds, each, count):
    assert session.count_in(seconds, each, 5, 1000) == count


def test_each_peer_has_its_column_group_and_its_ratio():
    shown = make_table()
    header = table.header_cells(shown)
    assert header.count("ratio") == 2
    assert header[1:3] == ["mooncake_mpi", "p10 - p90"]
    cells = table.row_cells(shown.rows[1])
    assert len(cells) == len(header)
    assert [cells[index] for index, name in enumerate(header) if name == "ratio"] == [
        "0.50",
        "0.33",
    ]


def test_a_table_of_ours_alone_has_no_ratio():
    shown = make_table(peers=("mooncake_mpi",))
    assert "ratio" not in table.header_cells(shown)
    assert "ratio" not in table.caption(shown)


def test_a_ratio_to_nothing_is_empty():
    assert table.format_ratio(fixed(3.0), fixed(0.0)) == ""


def written(shown, capsys, **options):
    writer = table.Writer(
        dataclasses.replace(shown, rows=()), [row.label for row in shown.rows], **options
    )
    for row in shown.rows:
        writer.write(row)
    return capsys.readouterr().out


def test_the_table_in_text_and_as_markdown_hold_the_same_cells(capsys):
    shown = make_table()
    text, markdown = written(shown, capsys, width=200), table.markdown(shown)
    for row in shown.rows:
        for cell in table.row_cells(row):
            assert cell in text
            assert cell in markdown
    lines = markdown.splitlines()
    assert len({line.count("|") for line in lines[:-2]}) == 1


@pytest.mark.parametrize(
    "peers",
    [("mooncake_mpi",), ("mooncake_mpi", "Open MPI"), ("mooncake_mpi", "Open MPI", "torch gloo")],
)
def test_a_table_fits_the_width_and_keeps_medians_and_ratios(capsys, monkeypatch, peers):
    shown = make_table(peers=peers)
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = written(shown, capsys).splitlines()
    assert max(map(len, lines)) <= 80
    assert len({len(line) for line in lines[3:]}) == 1
    assert ("p10" in lines[3]) == (len(peers) < 3)
    monkeypatch.setenv("COLUMNS", "120")
    assert "p10" in written(shown, capsys)


def test_a_table_tells_the_ways_that_the_bytes_took(capsys, tmp_path):
    shown = make_table()
    took = ["eager", "push", "push 96 %, staged 4 %, copy <1 %"]
    rows = tuple(
        dataclasses.replace(row, path=path) for row, path in zip(shown.rows, took, strict=True)
    )
    shown = dataclasses.replace(shown, rows=rows, tells_paths=True)
    _, _, _, heads, *lines = written(shown, capsys, width=200).splitlines()
    assert heads.endswith("path")
    assert [line[heads.index("path") :] for line in lines] == took
    assert all(f" {path} |" in table.markdown(shown) for path in took)
    content = report.document("latency", BenchOptions(), shown, "MPI 1", report.Job(("a",), ""))
    assert report.table_of(content) == shown


def test_ways_are_those_of_what_was_moved_meanwhile():
    before = Counter(push=100, copy=7)
    assert paths.between(before, before) == "eager"
    assert paths.between(before, before + Counter(push=5)) == "push"
    after = before + Counter(push=9600, staged=396, copy=4)
    assert paths.between(before, after) == "push 96 %, staged 4 %, copy <1 %"


def test_each_row_is_written_when_it_is_measured(capsys):
    shown = make_table()
    writer = table.Writer(dataclasses.replace(shown, rows=()), [row.label for row in shown.rows])
    assert len(capsys.readouterr().out.splitlines()) == 4
    writer.write(shown.rows[0])
    assert capsys.readouterr().out.split()[0] == "8"


def test_the_json_holds_table_options_and_machine(tmp_path):
    path = tmp_path / "result.json"
    content = report.document(
        "latency",
        BenchOptions(against=("mpi", "gloo")),
        make_table(),
        "MPI 1",
        report.Job(("a", "b"), "not pinned"),
    )
    report.write(str(path), content)
    read = json.loads(path.read_text())
    assert read["options"]["against"] == ["mpi", "gloo"]
    assert read["table"]["rows"][0]["statistics"][2]["median"] == pytest.approx(0.24)
    assert read["machine"]["cpus"] >= 1
    assert read["versions"]["mooncake_mpi"] == mooncake_mpi.__version__
    assert (read["ranks"], read["hosts"], read["pinning"]) == (2, ["a", "b"], "not pinned")
    assert report.table_of(read) == make_table()


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("sizes", [(0, 8, 1024), (8,)], ids=["lines", "bars"])
def test_a_plot_is_drawn(tmp_path, suffix, sizes):
    path = tmp_path / f"plot{suffix}"
    plot.write(str(path), make_table(sizes), "a note")
    magic = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(magic[suffix])


def test_a_plot_names_all_peers_and_is_the_same_twice(tmp_path):
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    for path in (first, second):
        plot.write(str(path), make_table(), "a note")
    assert first.read_bytes() == second.read_bytes()
    text = first.read_text()
    for expected in ("mooncake_mpi", "Open MPI", "torch gloo", "Latency", "a note"):
        assert expected in text


def test_both_axes_of_sizes_are_logarithmic():
    figure = Figure()
    axes = figure.add_subplot()
    plot.draw_lines(axes, make_table((0, 8, 64)))
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert len(axes.lines) == 3
    assert list(axes.lines[1].get_xdata()) == [8, 64]


@pytest.mark.parametrize(
    ("alone", "compute", "total", "percent"),
    [
        (1.0, 1.0, 1.0, 100),
        (1.0, 1.0, 2.0, 0),
        (2.0, 2.0, 3.0, 50),
        (1.0, 1.0, 0.9, 100),
        (1.0, 1.0, 9.0, 0),
    ],
)
def test_the_hidden_part_of_a_transfer(alone, compute, total, percent):
    assert overlap.hidden_percent(alone, compute, total) == pytest.approx(percent)


@pytest.mark.parametrize("name", sorted(overlap.COMPUTATIONS))
def test_computation_takes_time_in_proportion_to_its_loops(name):
    assert 0 < overlap.seconds_per_loop(overlap.COMPUTATIONS[name]) < 0.01


def test_only_the_first_rank_shows_progress_and_only_where_it_is_useful(capsys):
    for rank, wanted in ((1, True), (0, False), (0, None)):
        shown = progress.make_progress(rank, wanted)
        assert type(shown) is progress.Progress
        shown.start(3)
        shown.label("latency 8 B")
        shown.advance()
        shown.stop()
    assert capsys.readouterr() == ("", "")


def test_a_wanted_bar_counts_turns_on_standard_error(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    bar = progress.make_progress(0, wanted=True)
    bar.start(2)
    bar.label("latency 8 B")
    bar.advance()
    bar.stop()
    shown = capsys.readouterr()
    assert "latency 8 B" in shown.err
    assert "1/2" in shown.err
    assert shown.out == ""
