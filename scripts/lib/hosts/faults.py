"""What can happen to the network of a bed: for its owner, and for programs in its hosts.

A cut drops frames where they arrive, by the sender's Ethernet address, so the kernels of both sides
notice nothing. ``unplug`` takes a host's own interface down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import remote

if TYPE_CHECKING:
    from pathlib import Path

INTERFACE = "eth0"
CUTS = f"""
add table netdev cuts
add set netdev cuts from {{ type ether_addr; }}
add chain netdev cuts in {{ type filter hook ingress device "{INTERFACE}" priority 0; }}
flush chain netdev cuts in
add rule netdev cuts in ether saddr @from drop
"""
LOSSES = f"""
add table netdev losses
add chain netdev losses in {{ type filter hook ingress device "{INTERFACE}" priority 1; }}
flush chain netdev losses in
"""
PER = 100_000


def ethernet_address(index: int) -> str:
    """Of a host; cable.py knows the last byte."""
    return f"02:00:00:00:00:{index:02x}"


def index_of(host: str) -> int:
    """host3 is 3.

    Raises:
        ValueError: no host is called so.
    """
    if not host.startswith("host") or not host[4:].isdecimal():
        raise ValueError(f"no host is called {host!r}")
    return int(host[4:])


def hosts_of(folder: Path) -> list[str]:
    """All hosts of the bed that has this folder."""
    return sorted((path.stem for path in folder.glob("host*.sock")), key=index_of)


def _nft(folder: Path, host: str, script: str) -> None:
    remote.run(folder, host, ["nft", "-f", "-"], text=script)


def cut(folder: Path, first: str, second: str | None = None, *, one_way: bool = False) -> None:
    """Nothing arrives from one host at the other (or all others), nor back unless ``one_way``."""
    for source, target in _directions(folder, first, second, one_way):
        element = ethernet_address(index_of(source))
        _nft(folder, target, f"{CUTS}add element netdev cuts from {{ {element} }}\n")


def heal(folder: Path, first: str, second: str | None = None) -> None:
    """Undo what ``cut`` did between them."""
    for source, target in _directions(folder, first, second, one_way=False):
        element = f"netdev cuts from {{ {ethernet_address(index_of(source))} }}"
        # whether it was there or not: what is added twice is there once
        _nft(folder, target, f"{CUTS}add element {element}\ndelete element {element}\n")


def _directions(
    folder: Path, first: str, second: str | None, one_way: bool
) -> list[tuple[str, str]]:
    others = [second] if second else [host for host in hosts_of(folder) if host != first]
    there = [(first, other) for other in others]
    return there if one_way else there + [(other, first) for other in others]


def lose(folder: Path, host: str, part: float) -> None:
    """Of what arrives at a host, this part (0 to 1) is lost from now on."""
    # not the questions for Ethernet addresses, which are asked again after a second only
    chosen = f"meta protocol != arp numgen random mod {PER} < {round(part * PER)}"
    rule = f"add rule netdev losses in {chosen} counter drop\n"
    _nft(folder, host, LOSSES + (rule if part else ""))


def swallow(folder: Path, host: str, longer_than: int) -> None:
    """Packets of more bytes never arrive, and nobody is told: a black hole of the path's MTU."""
    rule = f"add rule netdev losses in meta length > {longer_than} drop\n"
    _nft(folder, host, LOSSES + rule)


def refuse(folder: Path, host: str, first_port: int, last_port: int, how: str = "drop") -> None:
    """Calls of these ports of a host are dropped, or as ``how`` says: ``reject with tcp reset``."""
    rules = f"""
add table inet firewall
add chain inet firewall in {{ type filter hook input priority 0; }}
add rule inet firewall in tcp dport {first_port}-{last_port} {how}
"""
    _nft(folder, host, rules)


def unplug(folder: Path, host: str) -> None:
    """Take the link of a host down, which its kernel sees."""
    remote.run(folder, host, ["ip", "link", "set", INTERFACE, "down"])


def plug(folder: Path, host: str) -> None:
    """And up again."""
    remote.run(folder, host, ["ip", "link", "set", INTERFACE, "up"])


def reset_connections(folder: Path, host: str, *condition: str) -> int:
    """Reset the TCP connections of a host that ss selects so, both ends hear it; how many."""
    chosen = condition or ("not", "dst", "127.0.0.0/8", "and", "not", "dst", "[::1]")
    command = ["ss", "-K", "-t", "-n", "-H", "state", "established", *chosen]
    return len(remote.run(folder, host, command).stdout.splitlines())
