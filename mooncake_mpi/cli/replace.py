"""Standing in for ``mpi4py.MPI``, from the moment a program imports it."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_NAME = "mpi4py.MPI"


def install() -> None:
    """Make ``from mpi4py import MPI`` give ``mooncake_mpi.MPI``.

    MPI is not imported here: a program may still choose ``mpi4py.rc`` settings.
    """
    if _NAME in sys.modules:
        mirror = _mirror()
        sys.modules[_NAME] = mirror
        sys.modules["mpi4py"].MPI = mirror  # type: ignore[attr-defined]
    else:
        sys.meta_path.insert(0, _Finder())


def _mirror() -> ModuleType:
    import_module(_NAME)  # what the mirror and the package's modules are made from
    return import_module("mooncake_mpi.MPI")


class _Finder(MetaPathFinder):
    """Finds ``mpi4py.MPI``, once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The mirror in place of ``mpi4py.MPI``, nothing for other modules."""
        del path, target
        if fullname != _NAME:
            return None
        sys.meta_path.remove(self)
        return ModuleSpec(_NAME, _MirrorLoader())


class _MirrorLoader(Loader):
    """Gives the finished mirror to an import of ``mpi4py.MPI``."""

    _spec: Any = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The mirror."""
        del spec
        mirror = _mirror()
        self._spec = mirror.__spec__
        return mirror

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: the mirror has run; but it keeps the specification that reloads it."""
        module.__spec__ = self._spec
