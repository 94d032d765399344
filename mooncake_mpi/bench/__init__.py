"""Benchmarks of point-to-point messages, ours against the MPI library that started the job.

``methods`` holds the measured loops (the OSU micro-benchmarks' method), ``sampling`` alternates the
peers and reduces samples to statistics, ``plans`` decides what is measured for one command,
``table`` and ``report`` show the result. ``python -m mooncake_mpi bench`` is the front end.
"""

from __future__ import annotations
