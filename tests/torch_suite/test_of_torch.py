"""Torch's own tests of its backends, on this one, in processes that live as long as all tests.

    python tests/launch.py -n 3 --torchrun -- -m pytest tests/torch_suite

Torch starts processes for each test, which takes seconds; here the default group is made anew for
each. What torch skips for the name of a backend (``skip_but_pass_in_sandcastle_if``) runs, too.
``skipped.txt`` names the tests that are left out, and why.
"""

from __future__ import annotations

import os
import random
import re
import unittest
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist
from torch.testing._internal import common_distributed, common_utils

import mooncake_mpi.torch  # noqa: F401

BACKEND = "mooncake_mpi"
VARIABLES = dict(os.environ)
LIST = Path(__file__).with_name("skipped.txt")
SECONDS = 40
SKIPS = {skip.exit_code: skip.message for skip in common_distributed.TEST_SKIPS.values()}

# Some wait for eight ranks, where nothing in them needs as many.
common_distributed.skip_if_small_worldsize = lambda function: function
for feature in ("ddp", "plugin"):
    common_distributed.DistTestCases.backend_feature[feature].add(BACKEND)

from torch.testing._internal.distributed import distributed_test  # noqa: E402

SUITE = distributed_test.DistributedTest._DistTestBase


class Case(SUITE, common_utils.TestCase):
    """Torch's tests in a process that is a rank already."""

    __test__ = False

    @property
    def rank(self):
        return int(os.environ["RANK"])

    @property
    def world_size(self):
        return os.environ["WORLD_SIZE"]

    @property
    def init_method(self):
        return f"file://{store_file(self._testMethodName)}"


def store_file(name):
    return str(Path(os.environ["TEMP_DIR"]) / f"store-{name}")


def listed():
    """Expressions of names, and why they are left out."""
    lines = [line.partition("#") for line in LIST.read_text().splitlines()]
    return [(re.compile(line[0].strip()), line[2].strip()) for line in lines if line[0].strip()]


def names():
    left_out = [expression for expression, _ in listed()]
    return [
        name
        for name in sorted(vars(SUITE))
        if name.startswith("test_") and not any(one.fullmatch(name) for one in left_out)
    ]


@pytest.fixture(scope="session")
def store():
    size = int(os.environ["WORLD_SIZE"])
    return dist.FileStore(store_file("of-all"), size)


@pytest.fixture
def meet(store, request):
    """Waits for all ranks without any backend."""
    size, rank, turn = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"]), 0

    def wait():
        nonlocal turn
        turn += 1
        keys = [f"{request.node.name}/{turn}/{other}" for other in range(size)]
        store.set(keys[rank], "")
        store.wait(keys, timedelta(seconds=3 * SECONDS))

    return wait


@pytest.mark.parametrize("name", names())
def test_of_torch(name, meet):
    case = Case(name)
    distributed_test.Barrier.barrier_id = 1000 * names().index(name)
    common_utils.set_rng_seed()
    random.seed(1)
    os.environ.update(VARIABLES)
    meet()
    dist.init_process_group(
        BACKEND,
        init_method=case.init_method,
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=timedelta(seconds=SECONDS),
    )
    why = ""
    try:
        getattr(case, name)()
    except unittest.SkipTest as skip:
        why = str(skip)
    except SystemExit as end:
        why = SKIPS.get(end.code)
        if why is None:
            raise
    finally:
        try:
            meet()
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
    if why:
        pytest.skip(f"torch skips it: {why}")


def test_what_is_left_out_is_a_test_of_torch():
    for expression, why in listed():
        assert why, f"{expression.pattern} says no reason"
        assert any(map(expression.fullmatch, vars(SUITE))), (
            f"no test is called {expression.pattern}"
        )
