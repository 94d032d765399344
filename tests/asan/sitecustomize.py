"""For jobs under AddressSanitizer: the extension is the one that MOONCAKE_MPI_TEST_EXTENSION names."""

from __future__ import annotations

import os
import sys
from importlib.util import spec_from_file_location


class _Finder:
    """Finds that one module, before the finder of an editable install does."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        del path, target
        if name != "mooncake_mpi._native":
            return None
        return spec_from_file_location(name, os.environ["MOONCAKE_MPI_TEST_EXTENSION"])


sys.meta_path.insert(0, _Finder)
