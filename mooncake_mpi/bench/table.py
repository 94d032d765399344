"""The result as a table: in plain text, row by row, or as Markdown.

Called in the benchmark's one thread, without a lock.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.bench.sampling import Statistics


@dataclass(frozen=True)
class Row:
    """One line: a label and the statistics of each peer, in the order of the table's peers.

    ``size_bytes`` is the row's place on the axis of a plot, ``None`` where rows are no sizes;
    ``path`` is which ways the bytes took, if the table tells.
    """

    label: str
    statistics: tuple[Statistics, ...]
    size_bytes: int | None = None
    path: str | None = None


@dataclass(frozen=True)
class Table:
    """Rows of one unit; ``higher_is_better`` tells how the ratio ours / theirs reads."""

    title: str
    first_column: str
    unit: str
    peers: tuple[str, ...]
    higher_is_better: bool
    rows: tuple[Row, ...]
    tells_paths: bool = False


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


def header_cells(table: Table, *, spread: bool = True) -> list[str]:
    """Column titles, the first for the row's label; each peer but the first ends with its ratio."""
    cells = [table.first_column]
    for index, peer in enumerate(table.peers):
        cells += [peer, *(["p10 - p90"] if spread else []), *(["ratio"] if index else [])]
    return [*cells, "path"] if table.tells_paths else cells


def row_cells(row: Row, *, spread: bool = True) -> list[str]:
    """One text per column."""
    cells = [row.label]
    for index, statistics in enumerate(row.statistics):
        cells += format_statistics(statistics)[: 2 if spread else 1]
        if index:
            cells.append(format_ratio(row.statistics[0], statistics))
    return cells if row.path is None else [*cells, row.path]


def caption(table: Table) -> str:
    """How to read the ratio."""
    if len(table.peers) < 2:
        return f"{table.unit}, median"
    better = "above" if table.higher_is_better else "below"
    return f"{table.unit}, median; ratio {better} 1: {table.peers[0]} is faster"


#: Characters of the longest cell that a column of each kind has, but for names.
_VALUE, _SPREAD, _RATIO = 8, 15, 5
_GAP = "  "


class Writer:
    """Writes a table on standard output, each row as it comes.

    The spreads are left out where the lines would be longer than the terminal is wide: ``COLUMNS``
    of the environment, or 80, since a rank's standard output is the launcher's and tells no size.

    Args:
        table: without rows.
        labels: of the rows that will come.
        width: in characters; as above if left out.
    """

    def __init__(self, table: Table, labels: Sequence[str], width: int | None = None) -> None:
        self._table = table
        self._label_width = max(map(len, [table.first_column, *labels]))
        width = width or table_width()
        self._spread = True
        self._spread = len(self._line(header_cells(table))) <= width
        print(f"{table.title}\n{caption(table)}\n")
        print(self._line(header_cells(table, spread=self._spread)), flush=True)

    def write(self, row: Row) -> None:
        """One row."""
        print(self._line(row_cells(row, spread=self._spread)), flush=True)

    def _line(self, cells: Sequence[str]) -> str:
        widths = [self._label_width]
        for index, peer in enumerate(self._table.peers):
            widths.append(max(_VALUE, len(peer)))
            widths += [*([_SPREAD] if self._spread else []), *([_RATIO] if index else [])]
        pairs = zip(cells, widths, strict=False)
        # Nothing stands behind the last cell, so it may be as long as it is.
        texts = [cell.rjust(width) for cell, width in pairs]
        return _GAP.join([*texts, *cells[len(widths) :]])


def table_width() -> int:
    """The terminal's width, as :class:`Writer` takes it."""
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() and int(text) else 80


def markdown(table: Table) -> str:
    """The table as Markdown, with its caption below."""
    header, *rows = [header_cells(table), *(row_cells(row) for row in table.rows)]
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
    return "\n".join([*lines, "", f"{table.title}: {caption(table)}."])
