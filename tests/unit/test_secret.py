"""The secret of a process is where its peers are given it, and nowhere else."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import base64, contextlib, io
from pathlib import Path

from mpi4py import MPI
from mooncake_mpi.cli import info
from mooncake_mpi.engine import runtime

SECRET_AT = 48  # docs/wire.md
entry = runtime.communicator_of(MPI.COMM_SELF).entry
secret = entry[SECRET_AT : SECRET_AT + 32]
assert len(set(secret)) > 10, secret
shown = io.StringIO()
with contextlib.redirect_stdout(shown):
    info.main([])
places = {
    "environment": Path("/proc/self/environ").read_bytes(),
    "command line": Path("/proc/self/cmdline").read_bytes(),
    "info": shown.getvalue().encode(),
}
assert b"MPI" in places["info"]
for name, place in places.items():
    for form in (secret[:8], secret[:8].hex().encode(), base64.b64encode(secret)[:10]):
        assert form not in place, name
print("nowhere")
"""


def test_it_is_in_no_environment_command_line_or_output():
    outcome = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100, check=False
    )
    assert outcome.stdout == "nowhere\n", outcome.stderr
