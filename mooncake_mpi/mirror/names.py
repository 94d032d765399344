"""How ``mooncake_mpi.MPI`` becomes what ``mpi4py.MPI`` is, beyond the names that it imports."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI as library  # noqa: N811

from mooncake_mpi import errors
from mooncake_mpi.communicators.predefined import (
    PREDEFINED,
    is_running,
    predefined,
    start_predefined,
)
from mooncake_mpi.mirror import c_interface, module_functions

# In this order: where a process cannot take part, those of COMM_WORLD are told.
_WORLDS = ("COMM_WORLD", "COMM_SELF")
_PRIVATE = {
    "_addressof": module_functions.addressof,
    "_handleof": module_functions.handleof,
    "_sizeof": module_functions.sizeof,
}


def fill(names: dict[str, Any]) -> None:
    """Take over private names, and make the world communicators if MPI is initialised.

    Args:
        names: of the mirror, with the library's public ones in it.
    """
    for name, value in vars(library).items():
        if name == "__pyx_capi__" or (name.startswith("_") and not name.endswith("__")):
            names.setdefault(name, value)
    names.update(_PRIVATE)
    # Programs look for the MPI library through the extension module's file.
    names["__file__"] = library.__file__
    names["__pyx_capi__"] = c_interface.table(names["__pyx_capi__"])
    for name in errors.FAILURE_CLASSES:
        names.pop(name, None)  # see attribute()
    for name in _WORLDS:
        names.pop(name)
        PREDEFINED[name] = predefined(getattr(library, name))
    if is_running():
        names.update({name: attribute(names, name) for name in errors.FAILURE_CLASSES})
        names.update({name: attribute(names, name) for name in _WORLDS})


def attribute(names: dict[str, Any], name: str) -> Any:
    """What needs an initialised MPI, or was added by a later mpi4py.

    The former are the error classes that the library may lack, and the world communicators, which
    whoever asks for them when MPI is running has all processes ask for: the engine is started then.
    """
    if name in _WORLDS:
        if not is_running():
            return PREDEFINED[name]
        start_predefined()
        return names.setdefault(name, PREDEFINED[name])
    if name in errors.FAILURE_CLASSES and is_running():
        return names.setdefault(name, errors.error_class(name))
    return getattr(library, name)


def listing(names: dict[str, Any]) -> list[str]:
    """What ``dir`` gives of the mirror."""
    return sorted({*names, *dir(library)})
