"""The settings of jobs in which GPUs do not reach each other."""

from __future__ import annotations

CLOSING = {"MOONCAKE_MPI_FAKE_CUDA_FAIL", "MOONCAKE_MPI_FAKE_CUDA_NO_PEER", "MOONCAKE_MPI_LANES"}
