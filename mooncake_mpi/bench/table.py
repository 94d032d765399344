"""The result as a table: drawn by rich where it is installed, else the same in plain text.

Called in the benchmark's one thread, without a lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.bench.sampling import Statistics


@dataclass(frozen=True)
class Row:
    """One line: a label and the statistics of each peer, in the order of the table's peers.

    ``size_bytes`` is the row's place on the axis of a plot, ``None`` where rows are no sizes.
    """

    label: str
    statistics: tuple[Statistics, ...]
    size_bytes: int | None = None


@dataclass(frozen=True)
class Table:
    """Rows of one unit; ``higher_is_better`` tells how the ratio ours / theirs reads."""

    title: str
    first_column: str
    unit: str
    peers: tuple[str, ...]
    higher_is_better: bool
    rows: tuple[Row, ...]


def format_quantity(value: float) -> str:
    """Three significant digits below 100, whole numbers with thousands separators above."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def format_statistics(statistics: Statistics) -> tuple[str, str]:
    """The median, and the 10th to 90th percentile."""
    spread = f"{format_quantity(statistics.p10)} - {format_quantity(statistics.p90)}"
    return format_quantity(statistics.median), spread


def format_ratio(ours: Statistics, theirs: Statistics) -> str:
    """Our median over theirs; empty where theirs is zero."""
    if theirs.median == 0:
        return ""
    ratio = ours.median / theirs.median
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def header_cells(table: Table) -> list[str]:
    """Column titles, the first for the row's label; each peer but the first ends with its ratio."""
    cells = [table.first_column]
    for index, peer in enumerate(table.peers):
        cells += [peer, "p10 - p90", *(["ratio"] if index else [])]
    return cells


def row_cells(row: Row) -> list[str]:
    """One text per column."""
    cells = [row.label]
    for index, statistics in enumerate(row.statistics):
        cells += format_statistics(statistics)
        if index:
            cells.append(format_ratio(row.statistics[0], statistics))
    return cells


def caption(table: Table) -> str:
    """How to read the ratio."""
    if len(table.peers) < 2:
        return f"{table.unit}, median"
    better = "above" if table.higher_is_better else "below"
    return f"{table.unit}, median; ratio {better} 1: {table.peers[0]} is faster"


def plain_text(table: Table) -> str:
    """The table in text with aligned columns."""
    lines = [header_cells(table), *(row_cells(row) for row in table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    drawn = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    return "\n".join([table.title, caption(table), "", *drawn])


def markdown(table: Table) -> str:
    """The table as Markdown, with its caption below."""
    header, *rows = [header_cells(table), *(row_cells(row) for row in table.rows)]
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
    return "\n".join([*lines, "", f"{table.title}: {caption(table)}."])


def show(table: Table, notes: Sequence[str] = ()) -> None:
    """Print the table and its notes on standard output."""
    try:
        from rich.console import Console
        from rich.table import Table as RichTable
    except ImportError:
        print(plain_text(table))
    else:
        drawn = RichTable(title=table.title, caption=caption(table), title_justify="left")
        for title in header_cells(table):
            drawn.add_column(title, justify="right", no_wrap=True)
        for row in table.rows:
            drawn.add_row(*row_cells(row))
        # A rank's standard output is the launcher's: no size to ask for, and no telling whether a
        # terminal or a file is behind it, so no colours. Both sizes are given, as rich takes a dumb
        # terminal to be 80 wide otherwise.
        Console(width=400, height=100, color_system=None).print(drawn)
    for note in notes:
        print(note)
