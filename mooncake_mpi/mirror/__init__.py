"""What makes ``mooncake_mpi.MPI`` stand for ``mpi4py.MPI``."""
