"""What a job of many ranks costs each of its processes, by a program that simulates one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


def startup(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "mooncake_mpi", "bench", "startup", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_member_that_is_never_talked_to_takes_160_bytes_and_no_square_of_them():
    outcome = startup("--simulate", "5000,20000")
    assert outcome.returncode == 0, outcome.stderr
    rows = [line.split("|") for line in outcome.stdout.splitlines()[2:]]
    assert [int(row[0].replace(",", "")) for row in rows] == [5000, 20000]
    for row in rows:
        assert 40 < float(re.match(r" +(\d+) B", row[3])[1]) <= 160
        assert float(re.match(r" +(\d+) B", row[5])[1]) <= 24


@pytest.mark.parametrize("wrong", ["0", "many", "10,-1"])
def test_what_is_no_number_of_ranks_is_refused_in_one_line(wrong):
    outcome = startup("--simulate", wrong)
    assert outcome.returncode == 2
    assert outcome.stderr.splitlines()[-1].startswith(
        "python -m mooncake_mpi bench startup: error:"
    )
