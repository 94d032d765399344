"""Requests of the engine: one, several at once, those of several parts, and what a status says."""

from __future__ import annotations

from mooncake_mpi.requests.request import Prequest, Request

__all__ = ["Prequest", "Request"]
