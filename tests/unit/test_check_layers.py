"""What scripts/check-layers finds in the Python package."""

import runpy
from pathlib import Path

import pytest

CHECK = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "check-layers"))


def edges_of(folder, **files):
    package = folder / "mooncake_mpi"
    for name, text in files.items():
        path = package / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return CHECK["imports"](folder)


@pytest.mark.parametrize(
    "text",
    [
        "from mooncake_mpi.memory import one",
        "def later():\n    import mooncake_mpi.memory.one",
        "from . import one",
        "from importlib import import_module\nimport_module('mooncake_mpi.memory.one')",
        "import importlib\ndef later():\n    importlib.import_module('mooncake_mpi.memory.one')",
        "import importlib\nimportlib.import_module('.one', __package__)",
        "from importlib import import_module\nNAME = 'mooncake_mpi.memory.one'\nimport_module(NAME)",
        "__import__('mooncake_mpi.memory.one')",
    ],
)
def test_a_circle_is_found_however_it_is_closed(tmp_path, text):
    edges = edges_of(tmp_path, memory__one="from mooncake_mpi.memory import two", memory__two=text)
    (circle,) = CHECK["import_cycles"](edges)
    assert "mooncake_mpi.memory.one -> mooncake_mpi.memory.two" in circle


def test_imports_for_types_alone_close_no_circle(tmp_path):
    typing = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mooncake_mpi.memory.one"
    )
    edges = edges_of(
        tmp_path, memory__one="from mooncake_mpi.memory import two", memory__two=typing
    )
    assert not CHECK["import_cycles"](edges)


def test_a_folder_imports_those_before_it_alone(tmp_path):
    edges = edges_of(
        tmp_path,
        errors="",
        memory__arrays="import mooncake_mpi.errors, mooncake_mpi.requests.statuses",
        requests__statuses="import mooncake_mpi.errors",
        unlisted__module="",
    )
    first, second = CHECK["folder_offences"](edges)
    assert first.startswith("mooncake_mpi.memory.arrays imports mooncake_mpi.requests.statuses")
    assert second.startswith("mooncake_mpi.unlisted.module: unlisted is not in the list")


@pytest.mark.parametrize(
    "header", ["infiniband/verbs.h", "cuda.h", "cuda_runtime.h", "openssl/ssl.h"]
)
def test_no_header_of_a_library_that_is_loaded_is_included(tmp_path, header):
    source = tmp_path / "native" / "drivers" / "verbs" / "library.h"
    source.parent.mkdir(parents=True)
    source.write_text(f"#include <cstdint>\n#include <{header}>\n")
    (offence,) = CHECK["native_offences"](tmp_path)
    assert offence.startswith(f"native/drivers/verbs/library.h:2: <{header}>")


def test_the_picture_of_the_layers_is_drawn_from_the_folders_that_there_are():
    tool = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "layers-picture"))
    assert tool["PICTURE"].read_text() == tool["picture"]()
