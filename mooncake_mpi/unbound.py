"""Methods called through their class: ``MPI.Request.test(request)``.

Such a call may be given an object of the MPI library, made by a communicator that the engine does
not carry. A metaclass made here lets it through to the library's own method; calls through an
object never pass it, and stay as fast as they are.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def dispatching(
    *library: type, redirect: Callable[[Any, str], Callable[..., Any] | None] | None = None
) -> type[type]:
    """A metaclass for the classes that stand for ``library``, and for their subclasses.

    Args:
        library: mpi4py's classes, whose methods are meant.
        redirect: gives what is called for an object and a name in place of the class's own method,
            or ``None``; when left out, the library's method for the library's instances.
    """
    owners = {name: kind for kind in library for name in vars(kind) if is_method(kind, name)}

    def of_library(instance: Any, name: str) -> Callable[..., Any] | None:
        kind = owners[name]
        return partial(getattr(kind, name), instance) if isinstance(instance, kind) else None

    chosen = of_library if redirect is None else redirect

    class Dispatching(type):
        def __getattribute__(cls, name: str) -> Any:
            value = super().__getattribute__(name)
            return _function(value, name, chosen) if name in owners else value

    return Dispatching


def is_method(kind: type, name: str) -> bool:
    """Whether ``kind`` itself has a public method of that name, for its objects."""
    value = vars(kind)[name]
    kinds = (classmethod, staticmethod, type(vars(dict)["fromkeys"]))
    return not name.startswith("_") and callable(value) and not isinstance(value, kinds)


def _function(
    method: Any, name: str, redirect: Callable[[Any, str], Callable[..., Any] | None]
) -> Callable[..., Any]:
    @wraps(method)
    def call(instance: Any, *args: Any, **kwargs: Any) -> Any:
        other = redirect(instance, name)
        return method(instance, *args, **kwargs) if other is None else other(*args, **kwargs)

    return call
