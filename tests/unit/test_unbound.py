"""Methods called through their class take the library's objects too."""

from __future__ import annotations

import pytest

from mooncake_mpi.unbound import dispatching


class Library:
    """Stands for mpi4py's class."""

    def wait(self, status=None):
        return ("library", status)

    def start(self):
        return "library starts"

    @classmethod
    def waitall(cls):
        return "library's"


class PersistentLibrary(Library):
    """Stands for a subclass of mpi4py's."""

    def start_all(self):
        return "library starts all"


class Ours(metaclass=dispatching(Library, PersistentLibrary)):
    """Stands for the class in its place."""

    def wait(self, status=None):
        """What is promised."""
        return ("ours", status)

    @classmethod
    def waitall(cls):
        return "ours"


class Persistent(Ours):
    """Ours, in place of the subclass."""

    def start_all(self):
        return "we start all"


def test_each_object_reaches_its_own_method():
    assert Ours.wait(Ours(), status=3) == ("ours", 3)
    assert Ours.wait(Library(), 3) == ("library", 3)
    assert Persistent.start_all(Persistent()) == "we start all"
    assert Persistent.start_all(PersistentLibrary()) == "library starts all"


def test_calls_through_an_object_and_classmethods_are_left_alone():
    assert Ours().wait() == ("ours", None)
    assert Ours.waitall() == "ours"
    assert "wait" in vars(Ours)
    assert Ours.wait.__doc__ == "What is promised."


def test_a_subclass_overrides_and_reaches_its_base():
    class Mine(Ours):
        def wait(self, status=None):
            return ("mine", Ours.wait(self, status), super().wait(status))

    assert Mine.wait(Mine()) == ("mine", ("ours", None), ("ours", None))

    class Theirs(Library):
        def wait(self, status=None):
            return ("theirs", Ours.wait(self, status))

    assert Theirs().wait() == ("theirs", ("library", None))


def test_a_method_that_ours_lacks_is_an_attribute_error():
    with pytest.raises(AttributeError, match="type object 'Ours' has no attribute 'start'"):
        _ = Ours.start


def test_anything_else_is_a_type_error():
    with pytest.raises(TypeError):
        Ours.wait()
