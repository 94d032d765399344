"""Copies the licences of what is compiled into the extension into a folder, for the wheel.

``python third_party_licenses.py FOLDER``: nanobind's, from its package, and that of robin-map,
which nanobind has a copy of, from the head of its header. Says what it did not find, and ends with
1 then.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path


def nanobind_license() -> str:
    """The text that nanobind's package brings."""
    for file in importlib.metadata.files("nanobind") or []:
        if file.name == "LICENSE":
            return file.read_text()
    raise FileNotFoundError("the package of nanobind brings no LICENSE")


def robin_map_license() -> str:
    """The comment at the head of nanobind's copy."""
    import nanobind

    folder = Path(nanobind.__path__[0]) / "ext" / "robin_map" / "include" / "tsl"
    head = (folder / "robin_map.h").read_text().split("*/")[0]
    if "Copyright" not in head:
        raise FileNotFoundError(f"{folder}/robin_map.h says nothing of its licence")
    lines = [line.strip().removeprefix("*").removeprefix(" ") for line in head.splitlines()[1:]]
    return "\n".join(lines).strip() + "\n"


def main(arguments: list[str]) -> int:
    """Write both."""
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / "LICENSE.nanobind").write_text(nanobind_license())
        (folder / "LICENSE.robin-map").write_text(robin_map_license())
    except (OSError, importlib.metadata.PackageNotFoundError) as error:
        print(f"{error}: the wheel will lack a licence of what is compiled into it")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
