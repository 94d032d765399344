"""A rule for every Python test: a skip that nobody expected is a failure."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

# Without torch the folder of its tests would be taken for it, as soon as tests/ is on the path.
if (found := find_spec("torch")) is None or found.origin is None:
    sys.modules["torch"] = None  # type: ignore[assignment]

ALLOWED_SKIPS_FILE = Path(__file__).with_name("allowed_skips.txt")


def allowed_skips() -> list[re.Pattern[str]]:
    """The reasons for which a test may be skipped: one expression a line, # starts a comment."""
    lines = (line.strip() for line in ALLOWED_SKIPS_FILE.read_text().splitlines())
    return [re.compile(line) for line in lines if line and not line.startswith("#")]


def refuse_unexpected_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure unless its reason is on the list."""
    if not report.skipped:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = getattr(report, "wasxfail", reason).removeprefix("Skipped: ")
    if not any(pattern.search(reason) for pattern in allowed_skips()):
        report.outcome = "failed"
        listed = f"tests/{ALLOWED_SKIPS_FILE.name} says which are expected"
        report.longrepr = f"unexpected skip: {reason} ({listed})"
        vars(report).pop("wasxfail", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge the skip of a test."""
    report = yield
    refuse_unexpected_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge the skip of a whole file."""
    report = yield
    refuse_unexpected_skip(report)
    return report
