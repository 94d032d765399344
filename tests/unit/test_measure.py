"""scripts/bench makes docs/numbers.md: its commands are valid, and it replaces its own section only."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from mooncake_mpi.bench import arguments, plans

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def measure():
    spec = importlib.util.spec_from_file_location("measure", ROOT / "scripts/lib/measure.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure"] = module  # where dataclasses looks for the types of its fields
    spec.loader.exec_module(module)
    yield module
    del sys.modules["measure"]


def test_every_command_of_the_page_is_valid_and_every_benchmark_is_on_it(measure):
    commands = set()
    for measurement in measure.MEASUREMENTS:
        words = measurement.options.split()
        command, options = arguments.parse_options(words)
        plans.require_ranks(command, measurement.ranks)
        plans.require_peers(command, options.against)
        commands.add(command)
    assert commands == set(plans.PLANS)


def test_a_section_is_replaced_between_its_marks_only(measure):
    text = (
        "a\n<!-- measured: x -->\nold\n<!-- end: x -->\nb\n<!-- measured: y -->\n<!-- end: y -->\n"
    )
    once = measure.replace_section(text, "x", "new")
    assert "old" not in once
    assert once.startswith("a\n<!-- measured: x -->\n\nnew\n\n<!-- end: x -->\nb\n")
    assert measure.replace_section(once, "x", "new") == once
    with pytest.raises(ValueError, match="no marks for 'z'"):
        measure.replace_section(text, "z", "new")


def test_the_page_has_a_place_for_both_libraries(measure):
    text = measure.NUMBERS.read_text(encoding="utf-8")
    for name in ("openmpi", "mpich"):
        assert "the tables" in measure.replace_section(text, name, "the tables")


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["--only", "speed"], "'speed'"), (["--only", "ring-2", "--write"], "--write")],
)
def test_options_that_make_no_sense_are_refused(measure, capsys, words, expected):
    with pytest.raises(SystemExit, match="2"):
        measure.parse(words)
    assert expected in capsys.readouterr().err
