"""Instructions of an 8 B message over the verbs lane, sent and received, counted by valgrind.

    python tests/native/count_instructions.py build/native/tests/native/lane_benchmark

Both ends run in one thread on adapters in memory, whose own instructions are left out: what remains is
the engine's part, which is the same on real adapters but for the driver's.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

MESSAGES = 4000
WARM_UP = 1000  # of the benchmark, counted as well
FAKE = "verbs_driver::Fake"
COUNTED = "counted_messages"
_NAME = re.compile(r"^(c?fn)=\((\d+)\)(?: (.*))?$")
_COST = re.compile(r"^(?:[+-]?\d+|\*) (\d+)$")


def parts(profile: str) -> tuple[int, int]:
    """Instructions of the whole, and of the adapters in memory among them."""
    names: dict[str, str] = {}
    function = callee = ""
    total = fake = 0
    call = False
    for line in profile.splitlines():
        if found := _NAME.match(line):
            kind, number, name = found.groups()
            if name:
                names[number] = name
            if kind == "fn":
                function = names[number]
            else:
                callee = names[number]
        elif line.startswith("calls="):
            call = True
        elif found := _COST.match(line):
            cost = int(found.group(1))
            if not call:
                total += cost
            elif FAKE in callee and FAKE not in function:
                fake += cost  # of the call with all that it calls
            call = False
    return total, fake


def main() -> None:
    benchmark = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile"
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", f"--toggle-collect={COUNTED}"),
                *(f"--callgrind-out-file={profile}", benchmark, "count"),
                *("--iterations", str(MESSAGES)),
            ],
            check=True,
            capture_output=True,
        )
        total, fake = parts(profile.read_text())
    messages = MESSAGES + WARM_UP
    print(f"{(total - fake) / messages:,.0f} instructions for a message, send and receive")
    print(f"(and {fake / messages:,.0f} of the adapters in memory)")


if __name__ == "__main__":
    main()
