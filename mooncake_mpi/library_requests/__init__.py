"""Requests of the engine that the MPI library knows too, for communicators wrapped by hand."""
