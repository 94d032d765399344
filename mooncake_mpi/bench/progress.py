"""A progress bar on rank 0's standard error, moved between measurements and never during one."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Progress:
    """Shows nothing; what other ranks have, and rank 0 where nobody looks at its standard error."""

    def start(self, total: int) -> None:
        """``total`` turns lie ahead."""

    def label(self, text: str) -> None:
        """What is measured next."""

    def advance(self) -> None:
        """A turn begins."""

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """While something is written that may go to the same terminal."""
        self.stop()
        yield
        self.resume()

    def resume(self) -> None:
        """Be seen again."""

    def stop(self) -> None:
        """Leave the terminal as it was."""


class Bar(Progress):
    """rich's bar; without the thread by which rich would redraw it during a measurement."""

    def __init__(self, *, force: bool) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True, force_terminal=True if force else None),
            auto_refresh=False,
            transient=True,
        )
        self._task: Any = None

    def start(self, total: int) -> None:
        """Draw it."""
        self._task = self._bar.add_task("", total=total)
        self._bar.start()

    def label(self, text: str) -> None:
        """Write in front of the bar."""
        self._bar.update(self._task, description=text)

    def advance(self) -> None:
        """One step."""
        self._bar.advance(self._task)
        self._bar.refresh()

    def resume(self) -> None:
        """Draw it again."""
        self._bar.start()

    def stop(self) -> None:
        """Take it away."""
        self._bar.stop()


class Line(Progress):
    """The label alone, where rich is not installed."""

    def label(self, text: str) -> None:
        """Rewrite the line."""
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Clear the line."""
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def make_progress(rank: int, wanted: bool | None) -> Progress:
    """The bar on rank 0 if ``wanted``, or if unspecified and standard error is a terminal."""
    if rank != 0 or wanted is False or (wanted is None and not sys.stderr.isatty()):
        return Progress()
    try:
        return Bar(force=wanted is True)
    except ImportError:
        return Line()
