"""Whether two names mean the same thing: what a policy protects, and what a fault would touch.

Invariant: in doubt they do. A name that cannot be resolved here touches everything.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from agent.system import proc

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED: Final = (  # IPv4 addresses in IPv6 clothes, behind 96 bits: RFC 4291 (mapped), RFC 6052 (translated)
    ipaddress.IPv6Network("::ffff:0:0/96"),
    ipaddress.IPv6Network("64:ff9b::/96"),
)
_NEIGHBOURS: Final = (  # without neighbour discovery no IPv6 address can be reached: RFC 4861
    ipaddress.IPv6Network("fe80::/10"),
    ipaddress.IPv6Network("ff02::/16"),
)
_LOOPBACK: Final = ipaddress.IPv4Network("127.0.0.1/32")  # who dials 127.0.0.2 comes from 127.0.0.1
_OURS: Final = (" -m agent.guardian ", " -m agent.faults.", " -m agent.renewal ", " -m agent run ")


def is_network(text: str) -> bool:
    return _network(text) is not None


def cuts(peer: str, protected: str) -> bool:
    """Whether packets of the network *peer* are needed by the network *protected*; True for what is no network.

    The unspecified address is none that can be judged: who asks for an address of his own (DHCP) comes from it.
    """
    cut, kept = _network(peer), _network(protected)
    if cut is None or kept is None or (cut.num_addresses == 1 and cut.network_address.is_unspecified):
        return True
    return any(_overlap(cut, one) for one in _needed(kept))


def _network(text: str) -> Network | None:
    try:
        network = ipaddress.ip_network(text.partition("%")[0], strict=False)  # a zone only says by which interface
    except ValueError:
        return None
    for prefix in _MAPPED:
        if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(prefix):
            low = int(network.network_address) & 0xFFFFFFFF
            return ipaddress.IPv4Network((low, network.prefixlen - 96))
    return network


def _needed(kept: Network) -> Iterator[Network]:
    yield kept
    if isinstance(kept, ipaddress.IPv6Network) and not kept.is_loopback:
        yield from _NEIGHBOURS
    elif kept.is_loopback:
        yield _LOOPBACK


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def process(one: proc.Identity) -> str:
    """Why no fault may touch the process, whatever the policy says; empty if it may."""
    if (leader := _leader(one.pid)) not in (0, one.pid):
        return f"it is a thread of process {leader}, not a process"
    if not proc.alive(one):
        return ""
    if not proc.command_line(one.pid):
        return "a kernel thread"
    kin = [one.pid, *ancestors(one.pid)]
    if _is_ours(one.pid, _OURS) or any(_is_ours(pid, _OURS[:2]) for pid in kin):
        return "a part of the agent"
    return ""


def ancestors(pid: int) -> list[int]:
    """Parent, grandparent and so on, up to the first process."""
    found: list[int] = []
    while (stat := proc.stat(pid)) is not None and stat.parent > 0 and stat.parent not in found:
        pid = stat.parent
        found.append(pid)
    return found


def _is_ours(pid: int, marks: Sequence[str]) -> bool:
    line = f"{proc.command_line(pid)} "
    return any(mark in line for mark in marks)


def _leader(pid: int) -> int:
    """The process that the thread *pid* is of: itself for a process; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("Tgid:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def stands_on(path: str, kept: Iterable[str]) -> str:
    """That of the *kept* paths which *path* is, by whatever name; empty if it is none."""
    real = _real(path)
    return next((one for one in kept if real is None or (own := _real(one)) is None or _same(real, own)), "")


def shares_disk(path: str, kept: Iterable[str]) -> str:
    """That of the *kept* paths which lies on the file system of *path*, wherever else that is mounted; or empty."""
    device = _device(path)
    return next((one for one in kept if device is not None and _device(one) == device), "")


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except (OSError, ValueError):
        return None


def overlaps(path: str, kept: Iterable[str]) -> str:
    """That of the *kept* paths which *path* is, is above or is below, by whatever name; empty if it is none."""
    real = _real(path)
    for one in kept:
        own = _real(one)
        if real is None or own is None:
            return one
        if any(_same(real, above) for above in (own, *own.parents)):
            return one
        if any(_same(above, own) for above in real.parents):
            return one
    return ""


def _real(path: str) -> Path | None:
    """Without links, `..` and doubled slashes; None for what is no path."""
    try:
        return Path(os.path.realpath(path))
    except (ValueError, OSError):
        return None


def _same(one: Path, other: Path) -> bool:
    """Whether both are one directory, also by way of a bind mount."""
    if one == other:
        return True
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False
