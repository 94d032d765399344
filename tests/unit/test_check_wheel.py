"""What scripts/check-wheel finds in wheels that have a fault each."""

import runpy
import subprocess
import zipfile
from pathlib import Path

import pytest

CHECK = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "check-wheel"))
INFO = "mooncake_mpi-1.dist-info"
METADATA = """Metadata-Version: 2.4
Summary: messages
Author: somebody
License-Expression: MIT
Requires-Python: >=3.10
Requires-Dist: numpy
"""


def content_problems(folder, *, leave_out="", add=None, metadata=METADATA):
    files = {
        f"{INFO}/METADATA": metadata,
        f"{INFO}/entry_points.txt": "",
        "mooncake_mpi/__init__.py": "",
        "mooncake_mpi/py.typed": "",
        **{f"{INFO}/licenses/{name}": "" for name in CHECK["LICENSES"]},
        **(add or {}),
    }
    with zipfile.ZipFile(folder / "a.whl", "w") as wheel:
        for name, text in files.items():
            if name != leave_out:
                wheel.writestr(name, text)
    with zipfile.ZipFile(folder / "a.whl") as wheel:
        return list(CHECK["content_problems"](wheel))


def test_a_wheel_that_has_everything_is_accepted(tmp_path):
    assert content_problems(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        "mooncake_mpi/py.typed",
        f"{INFO}/licenses/LICENSE.nanobind",
        f"{INFO}/licenses/LICENSE.robin-map",
    ],
)
def test_a_file_that_is_missing_is_named(tmp_path, name):
    assert content_problems(tmp_path, leave_out=name) == [f"has no {name}"]


def test_a_requirement_of_a_cupy_is_refused(tmp_path):
    metadata = METADATA + "Requires-Dist: cupy-cuda12x>=13; extra == 'cupy'\n"
    (problem,) = content_problems(tmp_path, metadata=metadata)
    assert "cupy-cuda12x" in problem


def test_files_beside_the_package_are_refused(tmp_path):
    (problem,) = content_problems(tmp_path, add={"tests/test_a.py": ""})
    assert "tests" in problem


def test_metadata_without_an_author_is_refused(tmp_path):
    metadata = METADATA.replace("Author: somebody\n", "")
    assert content_problems(tmp_path, metadata=metadata) == ["says no Author"]


def module_problems(folder, source, *options):
    module = folder / "_native.so"
    command = ["c++", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(module), *options]
    subprocess.run(command, input=source, text=True, check=True)
    return list(CHECK["module_problems"](module))


FINE = 'extern "C" const char* PyInit__native() { return "libibverbs.so.1"; }\n'


def test_an_extension_that_exports_its_entry_alone_is_accepted(tmp_path):
    assert module_problems(tmp_path, FINE) == []


@pytest.mark.parametrize(
    ("source", "options", "named"),
    [
        (FINE + "int leaked;", [], "exports PyInit__native, leaked"),
        (FINE, ["-Wl,-rpath,/opt/lib"], "/opt/lib"),
        (FINE, ["-Wl,--no-as-needed", "-lresolv"], "needs libresolv.so.2"),
        (FINE.replace("libibverbs.so.1", ""), [], "has no verbs lane"),
    ],
)
def test_what_an_extension_shows_or_needs_too_much_is_named(tmp_path, source, options, named):
    (problem,) = module_problems(tmp_path, source, *options)
    assert named in problem
