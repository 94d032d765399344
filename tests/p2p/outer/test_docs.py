"""What the documentation shows runs: the examples, and every Python block of README and docs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from jobs import run

ROOT = Path(__file__).parents[3]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
#: Pages whose blocks need what a machine may lack.
NEEDS_GPU = {"docs/gpu.md"}
NEEDS_TORCH = {"docs/torch.md"}
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    for page in PAGES:
        for match in BLOCK.finditer((ROOT / page).read_text()):
            line = (ROOT / page).read_text()[: match.start()].count("\n") + 1
            yield pytest.param(page, match[1], id=f"{page}:{line}")


@pytest.mark.parametrize(("page", "text"), list(blocks()))
def test_a_block_of_the_documentation_is_a_program(page, text, program):
    compile(text, page, "exec")
    if page in NEEDS_GPU:
        return
    if page in NEEDS_TORCH:
        pytest.importorskip("torch")
    outcome = run(2, program(text))
    assert outcome.returncode == 0, outcome.output


EXAMPLES = {
    "demo.py": "bytes right",
    "halo_exchange.py": "200 steps in 3 pieces",
    "library.py": "mail arrived at 3 ranks",
    "pipeline.py": "50 frames through 3 stages",
    "recovery.py": "30 rounds, at last with 2 of 3 ranks",
    "task_farm.py": "40 tasks",
}


def test_every_example_is_run_here_and_is_in_the_gallery():
    examples = {path.name for path in (ROOT / "docs" / "examples").glob("*.py")}
    assert examples == set(EXAMPLES)
    gallery = (ROOT / "docs" / "examples.md").read_text()
    assert [name for name in sorted(examples) if f"examples/{name}" not in gallery] == []


@pytest.mark.parametrize(("name", "result"), list(EXAMPLES.items()))
def test_an_example_does_what_it_says(name, result):
    crashes = name == "recovery.py"
    outcome = run(3, ROOT / "docs" / "examples" / name, fault_tolerant=crashes)
    assert result in outcome.output
    assert "Traceback" not in outcome.output
    if not crashes:
        assert outcome.returncode == 0


def test_the_settings_page_is_what_the_settings_are():
    tool = runpy.run_path(str(ROOT / "scripts" / "settings-page"))
    assert (ROOT / "docs" / "settings.md").read_text() == tool["page"]()
