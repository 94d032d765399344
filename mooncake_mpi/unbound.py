"""Methods called through their class: ``MPI.Request.test(request)``.

Such a call may be given an object of the MPI library, made by a communicator that the engine does
not carry. A metaclass made here lets it through to the library's own method; calls through an
object never pass it, and stay as fast as they are.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def dispatching(*library: type) -> type[type]:
    """A metaclass for the class that stands for ``library[0]``, and for its subclasses.

    Args:
        library: mpi4py's classes; their instances reach their own methods.
    """
    namespace: dict[str, Any] = {
        name: _property(name, kind)
        for kind in library
        for name in vars(kind)
        if _is_method(kind, name)
    }
    return type("DispatchingType", (type,), namespace)


def let_through(
    metaclass: type[type], *library: type, redirect: Callable[[Any], Any | None]
) -> None:
    """As :func:`dispatching`, for a metaclass whose classes are complete; none can be set any more.

    Args:
        metaclass: of the classes that stand for ``library``.
        library: mpi4py's classes.
        redirect: gives the object whose method is called, or ``None`` for that of the class.
    """
    for kind in library:
        for name in vars(kind):
            if _is_method(kind, name) and name not in vars(metaclass):
                setattr(metaclass, name, _redirecting(name, redirect))


def _redirecting(name: str, redirect: Callable[[Any], Any | None]) -> property:
    def get(cls: type) -> Callable[..., Any]:
        method = _in_class(cls, name)

        @wraps(method)
        def call(instance: Any, *args: Any, **kwargs: Any) -> Any:
            other = redirect(instance)
            if other is not None:
                return getattr(other, name)(*args, **kwargs)
            return method.__get__(instance, type(instance))(*args, **kwargs)

        return call

    return property(get)


def _in_class(cls: type, name: str) -> Any:
    for kind in cls.__mro__:
        if name in vars(kind):
            return vars(kind)[name]
    raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")


def _is_method(kind: type, name: str) -> bool:
    value = vars(kind)[name]
    kinds = (classmethod, staticmethod, type(vars(dict)["fromkeys"]))
    return not name.startswith("_") and callable(value) and not isinstance(value, kinds)


def _property(name: str, library: type) -> property:
    def get(cls: type) -> Callable[..., Any]:
        return _function(_in_class(cls, name), name, library)

    return property(get)


def _function(method: Any, name: str, library: type) -> Callable[..., Any]:
    @wraps(method)
    def call(instance: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(instance, library):
            return getattr(library, name)(instance, *args, **kwargs)
        return method.__get__(instance, type(instance))(*args, **kwargs)

    return call
