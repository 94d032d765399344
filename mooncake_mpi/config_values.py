"""What a setting's text means: sizes, switches, seconds, ports and numbers."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"(\d+)\s*([KMG]?)(?:I?B)?", re.IGNORECASE)
_SWITCH = {
    "1": True,
    "on": True,
    "yes": True,
    "true": True,
    "0": False,
    "off": False,
    "no": False,
    "false": False,
}


def parse_size(text: str) -> int:
    """A number of bytes: ``65536``, ``64K``, ``64 KiB``, ``1M`` (powers of 1024)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a number of bytes such as 65536, 64K or 1M")
    return int(match[1]) * _UNITS[match[2].upper()]


def parse_switch(text: str) -> bool:
    """``1`` or ``0`` (also on/off, yes/no, true/false)."""
    try:
        return _SWITCH[text.strip().lower()]
    except KeyError:
        raise ValueError("expected 0 or 1") from None


def parse_seconds(text: str) -> int:
    """A number of seconds such as ``30`` or ``0.5``, as milliseconds; only zero gives zero."""
    try:
        milliseconds = float(text) * 1000
        return max(1, round(milliseconds)) if milliseconds > 0 else round(milliseconds)
    except (ValueError, OverflowError):
        raise ValueError("expected a number of seconds such as 30 or 0.5") from None


def parse_ports(text: str) -> str:
    """Ports such as ``50000-50100``, or one."""
    first, dash, last = text.partition("-")
    try:
        low, high = int(first), int(last if dash else first)
    except ValueError:
        low = high = 0
    if not 1 <= low <= high <= 65_535:
        raise ValueError("expected ports such as 50000-50100, between 1 and 65535")
    return f"{low}-{high}"


def parse_integer(text: str) -> int:
    """A decimal integer."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected an integer") from None
