"""Standing in for ``mpi4py.MPI``, from the moment a program imports it."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_NAME = "mpi4py.MPI"
_MIRROR = "mooncake_mpi.MPI"


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
    # It calls the methods of mpi4py's own Comm by name, so it must get that module; what it sends
    # goes through the MPI library, in a matching space of its own.
    import_module("mpi4py.util.pkl5")
    return import_module("mooncake_mpi.MPI")


class _Finder(MetaPathFinder):
    """Finds the mirror as ``mpi4py.MPI``, until that is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The mirror in place of ``mpi4py.MPI``, nothing for other modules."""
        del path, target
        if fullname == _MIRROR:  # the program asks for the mirror by its own name
            sys.meta_path.remove(self)
            import_module(_NAME)
            spec = find_spec(_MIRROR)
            if spec is not None and spec.loader is not None:
                spec.loader = _ReplacingLoader(spec.loader)
            return spec
        return ModuleSpec(_NAME, _MirrorLoader(self)) if fullname == _NAME else None


class _MirrorLoader(Loader):
    """Gives the finished mirror to an import of ``mpi4py.MPI``."""

    def __init__(self, finder: _Finder) -> None:
        self._finder = finder
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The mirror."""
        del spec
        sys.meta_path.remove(self._finder)  # the mirror imports what it stands for
        mirror = _mirror()
        self._spec = mirror.__spec__
        return mirror

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: the mirror has run; but it keeps the specification that reloads it."""
        module.__spec__ = self._spec


class _ReplacingLoader(Loader):
    """Loads the mirror, then puts it in the place of ``mpi4py.MPI``."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """What the usual loader makes."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run the mirror's code."""
        self._loader.exec_module(module)
        sys.modules[_NAME] = module
        sys.modules["mpi4py"].MPI = module  # type: ignore[attr-defined]
