"""What ``inspect.signature`` and ``help`` say of the drop-in's methods is what mpi4py says."""

import ast
import inspect
from pathlib import Path

import mpi4py
import pytest
from mpi4py import MPI as LIBRARY

from mooncake_mpi import MPI

STUB = ast.parse((Path(mpi4py.__file__).parent / "MPI.pyi").read_text())
CLASSES = ["Comm", "Intracomm", "Cartcomm", "Request", "Prequest", "Message", "Status"]


def methods_of(name):
    """mpi4py's methods of a class and those it derives from, nearest first."""
    found = {}
    node = next(item for item in STUB.body if isinstance(item, ast.ClassDef) and item.name == name)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
            decorators = {ast.unparse(decorator) for decorator in item.decorator_list}
            if not any("property" in text or "setter" in text for text in decorators):
                found[item.name] = item.args
    for base in node.bases:
        found = {**methods_of(ast.unparse(base)), **found}
    return found


def parameters(arguments):
    names = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
    return [name for name in names if name not in {"self", "cls"}], len(arguments.defaults)


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_has_the_signature_that_mpi4py_gives_it(name):
    kind = getattr(MPI, name)
    different = {}
    for method, arguments in methods_of(name).items():
        signature = inspect.signature(getattr(kind, method))
        if getattr(kind, method) is getattr(getattr(LIBRARY, name), method):
            continue  # the library's own
        known = [item for item in signature.parameters.values() if item.name not in {"self", "cls"}]
        if any(item.kind is item.VAR_POSITIONAL for item in known):
            continue
        shown = [item.name for item in known], sum(item.default is not item.empty for item in known)
        if shown != parameters(arguments):
            different[method] = shown, parameters(arguments)
    assert different == {}


@pytest.mark.parametrize("method", ["Recv", "Irecv", "Sendrecv", "Probe", "Iprobe", "Recv_init"])
def test_the_defaults_of_receives_are_the_numbers_of_this_library(method):
    known = inspect.signature(getattr(MPI.Intracomm, method)).parameters
    assert known["source"].default == MPI.ANY_SOURCE
    assert known["recvtag" if method == "Sendrecv" else "tag"].default == MPI.ANY_TAG
