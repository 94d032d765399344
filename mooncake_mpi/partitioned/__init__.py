"""Partitioned communication (MPI 4.1, chapter 4)."""
