"""``python -m mooncake_mpi run`` runs programs as the interpreter does, with MPI replaced."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SHOW = """
import sys
from mpi4py import MPI
import mpi4py
assert MPI is mpi4py.MPI is sys.modules["mpi4py.MPI"]
assert hasattr(MPI.COMM_WORLD, "_communicator"), MPI.COMM_WORLD
print(__name__, sys.argv)
"""


def run(*arguments, **options):
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "mooncake_mpi", *map(str, arguments)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, **options
    )


def test_a_script_gets_its_arguments_and_the_engine(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SHOW + "import beside\n")
    (tmp_path / "beside.py").write_text("print('beside')")
    done = run("run", script, "-a", "--b")
    assert done.stdout == f"__main__ ['{script}', '-a', '--b']\nbeside\n", done.stderr
    assert done.returncode == 0


def test_a_module_is_run(tmp_path):
    (tmp_path / "program.py").write_text(SHOW)
    done = run("run", "-m", "program", "x", cwd=tmp_path, env=with_path())
    assert done.stdout == f"__main__ ['{tmp_path / 'program.py'}', 'x']\n", done.stderr


def test_a_command_is_run():
    done = run("run", "-c", SHOW, "x")
    assert done.stdout == "__main__ ['-c', 'x']\n", done.stderr


def test_standard_input_is_run():
    done = run("run", "-", "x", input=SHOW)
    assert done.stdout == "__main__ ['-', 'x']\n", done.stderr


def test_a_zip_file_is_run(tmp_path):
    archive = tmp_path / "program.zip"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("__main__.py", SHOW)
    done = run("run", archive)
    assert done.stdout == f"__main__ ['{archive}']\n", done.stderr


def with_path():
    """An environment in which this checkout is found from everywhere."""
    import os
    from pathlib import Path

    import mooncake_mpi

    root = Path(mooncake_mpi.__path__[0]).parent
    return os.environ | {"PYTHONPATH": str(root)}


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("sys.exit()", 0),
        ("sys.exit(0)", 0),
        ("sys.exit(3)", 3),
        ("sys.exit('why')", 1),
        ("raise ValueError('why')", 1),
        ("raise KeyboardInterrupt", 130),
    ],
)
def test_a_program_ends_the_job_with_its_status(ending, status):
    done = run("run", "-c", f"import sys\nfrom mpi4py import MPI\n{ending}")
    assert done.returncode == status, done.stderr
    assert ("why" in done.stderr) == ("why" in ending)
    assert ("Traceback" in done.stderr) == ending.startswith("raise")


def test_mpi_is_not_started_for_a_program_that_does_not_use_it():
    done = run("run", "-c", "import sys; print([n for n in sys.modules if 'MPI' in n])")
    assert done.stdout == "[]\n"


def test_looking_for_mpi4py_does_not_import_it_past_the_mirror():
    look = "import importlib.util\nassert importlib.util.find_spec('mpi4py.MPI')\n"
    done = run("run", "-c", look + SHOW)
    assert done.stdout == "__main__ ['-c']\n", done.stderr


def test_settings_of_mpi4py_are_passed_on():
    done = run(
        "run", "--rc", "initialize=False,thread_level=single", "-c",
        "from mpi4py import MPI, rc; print(MPI.Is_initialized(), rc.thread_level)",
    )  # fmt: skip
    assert done.stdout == "False single\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "no program to run"),
        (["run", "-m"], "-m needs an argument"),
        (["run", "--rc", "x", "script.py"], "'x' is not KEY=VALUE"),
        (["run", "--rc", "nonsense=1", "script.py"], "unexpected argument 'nonsense'"),
        (["run", "--nonsense", "script.py"], "unrecognized arguments: --nonsense"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        ([], "a command is needed"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_version():
    assert "run " in run("--help").stdout
    assert "PROGRAM is one of" in run("run", "--help").stdout
    assert run("--version").stdout.startswith("mooncake_mpi ")


def test_info_names_the_library_and_the_lanes():
    done = run("info")
    assert done.returncode == 0, done.stderr
    for word in ("MPI library", "lane to rank 0", "self", "MOONCAKE_MPI_EAGER_LIMIT"):
        assert word in done.stdout


def test_info_says_whether_there_is_a_driver_for_gpus():
    import os

    import fake_cuda

    for library, said in [
        ("/not/there.so", "refused: no CUDA driver: /not/there.so"),
        (str(fake_cuda.path()), "carried"),
    ]:
        done = run("info", env=os.environ | {"MOONCAKE_MPI_CUDA_LIBRARY": library})
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("memory of GPUs")]
        assert said in line


def test_the_doctor_sends_messages():
    done = run("doctor")
    assert done.returncode == 0, done.stderr
    assert "no message between processes was tested" in done.stdout
    assert "messages travel" not in done.stdout


def test_the_doctor_finds_that_the_launcher_started_more_processes_than_the_job_has():
    import os

    done = run("doctor", env=os.environ | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"})
    assert done.returncode == 1
    assert done.stdout.startswith("FAILED  srun started 2 processes")


def test_a_missing_program_is_one_line():
    done = run("run", "not_there.py")
    assert done.returncode == 2
    assert done.stderr == "mooncake_mpi run: there is no not_there.py\n"


def test_a_source_tree_without_the_native_module_says_so_in_one_line(tmp_path):
    import shutil
    import subprocess
    import sys

    root = Path(__file__).parents[2]
    shutil.copytree(
        root / "mooncake_mpi", tmp_path / "mooncake_mpi", ignore=shutil.ignore_patterns("*.so")
    )
    (tmp_path / "native").mkdir()
    (tmp_path / "pyproject.toml").touch()
    # -S: without the finder by which an editable install would bring the native module
    for program in (["-m", "mooncake_mpi", "info"], ["-c", "import mooncake_mpi.config"]):
        done = subprocess.run(
            [sys.executable, "-S", *program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert f"{tmp_path}/mooncake_mpi is the source of mooncake_mpi" in last
        assert "pip install --no-build-isolation -e ." in last
    assert len(done.stderr.splitlines()) > 1  # an import shows where it was; a command does not


def test_dir_shows_the_public_names():
    import mooncake_mpi

    assert dir(mooncake_mpi) == sorted(mooncake_mpi.__all__)
    assert all(getattr(mooncake_mpi, name) is not None for name in mooncake_mpi.__all__)


def test_a_bad_setting_is_one_line():
    import os

    done = run("info", env=os.environ | {"MOONCAKE_MPI_CMA": "maybe"})
    assert done.returncode != 0
    assert done.stderr == "mooncake_mpi: MOONCAKE_MPI_CMA='maybe': expected 0 or 1\n"


def test_file_of_a_script_is_absolute_and_its_argument_is_as_it_was_typed(tmp_path):
    (tmp_path / "folder").mkdir()
    script = tmp_path / "folder" / "script.py"
    script.write_text("import os, sys\nos.chdir('/')\nprint(__file__, sys.argv[0], sys.path[0])\n")
    done = run("run", "folder/script.py", cwd=tmp_path)
    assert done.stdout == f"{script} folder/script.py {script.parent}\n", done.stderr


def test_a_traceback_shows_the_program_alone(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("def fail():\n    raise ValueError('mine')\nfail()\n")
    done = run("run", script)
    assert done.returncode == 1
    assert done.stderr.count("  File ") == 2
    assert "mooncake_mpi" not in done.stderr


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "GeneratorExit", "BaseException('x')"])
def test_what_is_no_error_is_shown_and_ends_it_as_the_interpreter_would(tmp_path, raised):
    script = tmp_path / "script.py"
    script.write_text(f"def inner():\n    raise {raised}\ninner()\n")
    done = run("run", script)
    python = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (python.returncode, python.stdout)
    assert done.stderr == python.stderr


def test_builtins_of_a_script_are_the_module(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("__builtins__.profile = len\nprint(profile('abc'))\n")
    assert run("run", script).stdout == "3\n"


def test_a_program_may_import_the_package_s_own_names_first(tmp_path):
    text = (
        "from mooncake_mpi import Error, Intracomm\nfrom mpi4py import MPI\n"
        "print(MPI.Intracomm is Intracomm, type(MPI.COMM_WORLD) is Intracomm)\n"
    )
    done = run("run", "-c", text)
    assert done.stdout == "True True\n", done.stderr


def test_communicators_and_errors_are_recognised_as_mpi4py_s():
    from mooncake_mpi import MPI, Error

    comm = MPI.COMM_WORLD.Dup()
    assert type(comm).__module__ == "mpi4py.MPI"
    assert repr(comm).startswith("<mpi4py.MPI.Intracomm")
    assert Error.__module__ == "mpi4py.MPI"
    comm.Free()
