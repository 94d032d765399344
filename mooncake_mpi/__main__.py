"""``python -m mooncake_mpi``."""

from __future__ import annotations

from mooncake_mpi.cli import main

if __name__ == "__main__":
    main()
