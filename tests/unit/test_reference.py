"""docs/api.md has every public name once, under the path by which a program reaches it."""

import re
from inspect import getattr_static
from pathlib import Path

import pytest
from mpi4py import MPI as LIBRARY

import mooncake_mpi
from mooncake_mpi import MPI
from mooncake_mpi.communicators.collectives import _METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
ENTRIES = re.findall(r"^\.\. (?:auto|py:)\w+:: (\S+?)(?:\(.*)?$", PAGE, re.MULTILINE)


def own_methods(name):
    """What the package's class has that mpi4py's has not, or has otherwise."""
    kind, library = getattr(MPI, name), getattr(LIBRARY, name)

    def in_library(method):
        return next((vars(base)[method] for base in library.__mro__ if method in vars(base)), None)

    return {
        method
        for method in dir(kind)
        if not method.startswith("_")
        and method not in _METHODS  # the library's, kept from memory that it does not know
        and getattr_static(kind, method) is not in_library(method)
    }


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("Comm", None),
        ("Intracomm", "Comm"),
        ("Cartcomm", "Intracomm"),
        ("Graphcomm", "Intracomm"),
        ("Distgraphcomm", "Intracomm"),
        ("Request", None),
        ("Prequest", "Request"),
        ("Message", None),
        ("Status", None),
    ],
)
def test_every_method_of_a_class_is_described_once(name, base):
    inherited = own_methods(base) if base else set()
    wanted = {
        method for method in own_methods(name) - inherited if "neighbor" not in method.lower()
    }
    described = [entry.split(".")[1] for entry in ENTRIES if entry.startswith(f"{name}.")]
    assert wanted - set(described) == set()
    assert len(described) == len(set(described))
    assert f"mooncake_mpi.MPI.{name}" in ENTRIES


def test_every_name_of_the_package_is_described():
    described = {entry.rpartition(".")[2] for entry in ENTRIES}
    modules = {"__version__", "config", "shared_arrays"}
    assert set(mooncake_mpi.__all__) - modules - described == set()


def test_every_function_of_the_drop_in_is_described():
    own = {
        name
        for name in dir(MPI)
        if callable(getattr(MPI, name))
        and not isinstance(getattr(MPI, name), type)
        and not name.startswith("_")
        and getattr(MPI, name) is not getattr(LIBRARY, name, None)
    }
    assert own - set(ENTRIES) - {"COMM_SELF", "COMM_WORLD"} == set()
