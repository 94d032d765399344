"""The methods of requests for several at once (MPI 4.1, section 3.7.5), the library's included.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mooncake_mpi.requests import request_sets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI

    from mooncake_mpi.requests.states import AnyRequest


class SetMethods:
    """Class methods that take requests of the engine and of the MPI library in one list."""

    __slots__ = ()

    @classmethod
    def Waitany(cls, requests: Sequence[AnyRequest], status: MPI.Status | None = None) -> int:
        """Wait for one of ``requests``; gives its index, ``MPI.UNDEFINED`` if none is active."""
        return request_sets.wait_any(requests, status)[0]

    @classmethod
    def Testany(
        cls, requests: Sequence[AnyRequest], status: MPI.Status | None = None
    ) -> tuple[int, bool]:
        """Whether one of ``requests`` is complete, and its index."""
        return request_sets.test_any(requests, status)[:2]

    @classmethod
    def Get_status_any(
        cls, requests: Sequence[AnyRequest], status: MPI.Status | None = None
    ) -> tuple[int, bool]:
        """As :meth:`Testany`, but the request stays."""
        return request_sets.get_status_any(requests, status)

    @classmethod
    def Testall(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> bool:
        """Whether all ``requests`` are complete; ends them if so."""
        return request_sets.test_all(requests, statuses)[0]

    @classmethod
    def Get_status_all(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> bool:
        """As :meth:`Testall`, but the requests stay."""
        return request_sets.get_status_all(requests, statuses)

    @classmethod
    def Waitsome(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> list[int] | None:
        """Wait until some of ``requests`` are complete; gives their indices."""
        return request_sets.wait_some(requests, statuses)[0]

    @classmethod
    def Testsome(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> list[int] | None:
        """The indices of those ``requests`` that are complete."""
        return request_sets.test_some(requests, statuses)[0]

    @classmethod
    def Get_status_some(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> list[int] | None:
        """As :meth:`Testsome`, but the requests stay."""
        return request_sets.get_status_some(requests, statuses)

    @classmethod
    def waitany(
        cls, requests: Sequence[AnyRequest], status: MPI.Status | None = None
    ) -> tuple[int, Any]:
        """As :meth:`Waitany`; gives the index and the object."""
        return request_sets.wait_any(requests, status)

    @classmethod
    def testany(
        cls, requests: Sequence[AnyRequest], status: MPI.Status | None = None
    ) -> tuple[int, bool, Any | None]:
        """As :meth:`Testany`, with the object."""
        return request_sets.test_any(requests, status)

    @classmethod
    def waitall(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> list[Any]:
        """Wait for all ``requests``; gives their objects."""
        return request_sets.wait_all(requests, statuses)

    @classmethod
    def testall(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> tuple[bool, list[Any] | None]:
        """As :meth:`Testall`, with the objects."""
        return request_sets.test_all(requests, statuses)

    @classmethod
    def waitsome(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> tuple[list[int] | None, list[Any] | None]:
        """As :meth:`Waitsome`, with the objects."""
        return request_sets.wait_some(requests, statuses)

    @classmethod
    def testsome(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> tuple[list[int] | None, list[Any] | None]:
        """As :meth:`Testsome`, with the objects."""
        return request_sets.test_some(requests, statuses)

    get_status_any = Get_status_any
    get_status_all = Get_status_all
    get_status_some = Get_status_some
