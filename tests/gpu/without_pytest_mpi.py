"""For machines without pytest-mpi: its option and its mark. Named with -p."""

from __future__ import annotations


def pytest_addoption(parser):
    parser.addoption("--with-mpi", action="store_true", help="run tests of several ranks")


def pytest_configure(config):
    config.addinivalue_line("markers", "mpi(min_size): needs so many ranks")


def pytest_collection_modifyitems(config, items):
    """What needs more ranks than there are is left out."""
    from mpi4py import MPI

    ranks = MPI.COMM_WORLD.Get_size() if config.getoption("--with-mpi") else 1

    def wanted(item):
        return max((m.kwargs.get("min_size", 1) for m in item.iter_markers("mpi")), default=1)

    few = [item for item in items if wanted(item) > ranks]
    config.hook.pytest_deselected(items=few)
    items[:] = [item for item in items if item not in few]
