"""Errors of the engine as mpi4py's own exception (MPI 4.1, section 9.4: codes and classes).

Called in any thread of the program and in the completer's, no lock of its own.
"""

from __future__ import annotations

from typing import Any, NoReturn

from mpi4py import MPI

# Classes that an older MPI library lacks (mpi4py then gives them ERR_UNKNOWN's value), with the
# class that a program written for that library would expect instead.
_SUBSTITUTES = {
    "ERR_PROC_ABORTED": "ERR_OTHER",
    "ERR_SESSION": "ERR_OTHER",
    "ERR_VALUE_TOO_LARGE": "ERR_COUNT",
}


#: Classes that the engine reports under every library: where it lacks one, the class is added to it
#: (MPI 4.1, section 9.5), and ``mooncake_mpi.MPI`` has its value.
FAILURE_CLASSES = {
    "ERR_PROC_FAILED": "a process has failed",
    "ERR_PROC_FAILED_PENDING": "a process that could send the message has failed",
    "ERR_REVOKED": "the communicator was revoked",
}
_added: dict[str, int] = {}


class Error(MPI.Exception):
    """An error of the engine: an ``MPI.Exception`` that says in words what was wrong.

    ``Get_error_class()``, comparison with integers and ``int()`` work as for every other
    ``MPI.Exception``; ``str()`` is the name of the error class and the reason.

    Args:
        code: an MPI error class or code.
        name: the class's name without its ``MPI_`` prefix, such as ``"ERR_RANK"``; found from the
            code when left out.
        message: the reason, naming the argument or the peer.
    """

    __module__ = "mpi4py.MPI"  # programs look for it there

    #: For :mod:`mooncake_mpi.errhandlers`: the number of the communicator's context, the error of
    #: the one request of several, and whether the error handler was called.
    context: int = 0
    code_of_request: int = 0
    reported: bool = False

    def __init__(self, code: int = MPI.SUCCESS, name: str = "", message: str = "") -> None:
        super().__init__(code)
        self.name = name or _class_name(int(self))
        self.message = message

    def __str__(self) -> str:
        if not self.message:
            return MPI.Get_error_string(int(self))
        return f"MPI_{self.name}: {self.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self)}, {self.name!r}, {self.message!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The number of a class differs between MPI libraries, its name does not.
        kind = None if type(self) is Error else type(self)
        return (_rebuild, (kind, self.name, self.message))

    def Get_error_class(self) -> int:
        """The error class; Open MPI 4 does not know the class of a class that was added."""
        return int(self) if int(self) in _added.values() else super().Get_error_class()

    @property
    def error_class(self) -> int:
        """As :meth:`Get_error_class`."""
        return self.Get_error_class()

    def Get_error_string(self) -> str:
        """The text of ``str()``."""
        return str(self)


def error_class(name: str) -> int:
    """The value of error class ``name`` (such as ``"ERR_TRUNCATE"``) in the running MPI library.

    A class that the library lacks gives the nearest one that it has, or one that was added to it
    (``FAILURE_CLASSES``).
    """
    if name in _added:
        return _added[name]
    value: int = getattr(MPI, name, MPI.ERR_UNKNOWN)
    if name == "ERR_UNKNOWN" or library_has(value):
        return value
    if name in FAILURE_CLASSES and MPI.Is_initialized() and not MPI.Is_finalized():
        value = _added[name] = MPI.Add_error_class()
        MPI.Add_error_string(value, f"MPI_{name}: {FAILURE_CLASSES[name]}")
        return value
    return int(getattr(MPI, _SUBSTITUTES.get(name, "ERR_OTHER")))


def library_has(error_class: int) -> bool:
    """Whether the running library knows that class: mpi4py's wheel names more than some do."""
    return MPI.Get_error_class(error_class) != MPI.ERR_UNKNOWN


def make_error(name: str, message: str) -> Error:
    """The exception for error class ``name`` with the reason ``message``."""
    return Error(error_class(name), name, message)


def raise_error(name: str, message: str) -> NoReturn:
    """Raise :class:`Error` for error class ``name``; the engine reports through this.

    Raises:
        Error: always.
    """
    raise make_error(name, message)


def _rebuild(kind: type[Error] | None, name: str, message: str) -> Error:
    return (kind or Error)(error_class(name), name, message)


def _class_name(code: int) -> str:
    """The name of ``code``'s error class, ``"ERR_UNKNOWN"`` when no class has that value."""
    error = MPI.Get_error_class(code)
    for name, added in _added.items():
        if added == error:
            return name
    for name in dir(MPI):
        if name.startswith("ERR_") and getattr(MPI, name) == error:
            return name
    return "SUCCESS" if error == MPI.SUCCESS else "ERR_UNKNOWN"
