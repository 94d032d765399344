"""The result as a picture, the peers side by side: lines over the size, or bars.

Called in the benchmark's one thread, without a lock.
"""

from __future__ import annotations

import textwrap
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooncake_mpi.bench.options import OptionError, size_name
from mooncake_mpi.bench.table import format_quantity

if TYPE_CHECKING:
    from mooncake_mpi.bench.table import Table

SUFFIXES = (".png", ".svg", ".pdf")
COLORS = ("#d1495b", "#30638e", "#5b8c5a", "#edae49")
MARKERS = ("o", "s", "^", "D")


def require_matplotlib(path: str) -> None:
    """Whether a plot can be written to ``path``.

    Raises:
        OptionError: matplotlib is missing, or the file's name has another ending.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise OptionError(f"argument --plot: {path!r} does not end in {', '.join(SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise OptionError("argument --plot: matplotlib is not installed: pip install matplotlib")


def write(path: str, table: Table, note: str = "") -> None:
    """Draw the medians, with the 10th to 90th percentile as a band or an error bar.

    Raises:
        OSError: the file cannot be written.
    """
    matplotlib: Any = import_module("matplotlib")
    figure_module: Any = import_module("matplotlib.figure")
    # SVG's identifiers are random otherwise, and each run would differ from the last one's file.
    with matplotlib.rc_context({"svg.hashsalt": "mooncake_mpi", "svg.fonttype": "none"}):
        figure = figure_module.Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.add_subplot()
        if sizes_of(table):
            draw_lines(axes, table)
        else:
            draw_bars(axes, table)
        axes.set_ylabel(table.unit)
        axes.set_title(table.title, loc="left", fontsize=11)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        if note:
            figure.supxlabel(note, fontsize=7, color="0.4")
        metadata = {"Date": None} if Path(path).suffix.lower() == ".svg" else {}
        figure.savefig(path, dpi=110, metadata=metadata)


def sizes_of(table: Table) -> list[int]:
    """The sizes of the rows that have a place on a logarithmic axis, if there are several."""
    sizes = [row.size_bytes for row in table.rows if row.size_bytes]
    return sizes if len(sizes) > 1 else []


def draw_lines(axes: Any, table: Table) -> None:
    """A line and a band for each peer, both axes logarithmic; a row of size 0 has no place."""
    rows = [row for row in table.rows if row.size_bytes]
    sizes = sizes_of(table)
    for index, peer in enumerate(table.peers):
        column = [row.statistics[index] for row in rows]
        color = COLORS[index % len(COLORS)]
        marker = MARKERS[index % len(MARKERS)]
        medians = [statistics.median for statistics in column]
        axes.plot(sizes, medians, color=color, marker=marker, markersize=4, label=peer)
        low = [statistics.p10 for statistics in column]
        high = [statistics.p90 for statistics in column]
        axes.fill_between(sizes, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [size_name(size).replace(" ", "\n") for size in sizes], fontsize=8)
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.set_xlabel(table.first_column)


def draw_bars(axes: Any, table: Table) -> None:
    """A group of bars for each row, with the median written on each."""
    width = 0.8 / len(table.peers)
    for index, peer in enumerate(table.peers):
        column = [row.statistics[index] for row in table.rows]
        places = [
            place + (index - (len(table.peers) - 1) / 2) * width for place in range(len(column))
        ]
        medians = [statistics.median for statistics in column]
        below = [statistics.median - statistics.p10 for statistics in column]
        above = [statistics.p90 - statistics.median for statistics in column]
        bars = axes.bar(
            places,
            medians,
            width * 0.95,
            yerr=[below, above],
            error_kw={"elinewidth": 0.8, "alpha": 0.6},
            color=COLORS[index % len(COLORS)],
            label=peer,
        )
        axes.bar_label(bars, [format_quantity(value) for value in medians], fontsize=7, padding=2)
    labels = [textwrap.fill(row.label, 12) for row in table.rows]
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    values = [statistics for row in table.rows for statistics in row.statistics]
    smallest, largest = min(v.median for v in values), max(v.median for v in values)
    # Bars start at zero, unless the small ones could not be seen any more.
    if smallest > 0 and largest / smallest > 50:
        axes.set_yscale("log")
