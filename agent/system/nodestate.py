"""What can be seen of a node that a fault might leave behind, as plain text items by category.

Invariant: looking changes nothing. A category that cannot be looked at (a program is missing, or not allowed) is left
out of the answer, so that "nothing there" and "not looked" are never the same.
Source: tc(8), nft(8), ip(8), proc(5), cgroups(7).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.system import proc

State = dict[str, frozenset[str]]
_LOOKS: Final = {  # category -> command inside the network namespace
    "qdiscs": "tc qdisc show",
    "nft tables": "nft list tables",
    "links": "ip -o link show",
    "routes": "ip route show table all && ip -6 route show table all",
}
_MARK: Final = "=== "
_FOLDERS_MAX: Final = 20_000  # of cgroups; a node with more is not walked to the end
_TIMEOUT_S: Final = 10.0
_CHANGING: Final = re.compile(r" (expires \d+sec|refcnt \d+|state \S+|metric \d+ pref \w+)| brd \S+")


def of_network(network: str) -> State:
    """Qdiscs, nftables tables, links and routes of a network namespace ("": the agent's own)."""
    script = "".join(
        f"echo '{_MARK}{name}'; ({look}) 2>/dev/null || echo '{_MARK}!'; " for name, look in _LOOKS.items()
    )
    command = [*(["nsenter", f"--net={network}"] if network else []), "sh", "-c", script]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if listed.returncode:
        return {}
    found: State = {}
    for part in listed.stdout.split(f"{_MARK}")[1:]:
        name, _, text = part.partition("\n")
        if name == "!":
            found.pop(next(reversed(found)), None)
        else:
            found[name] = frozenset(filter(None, (_item(name, line) for line in text.splitlines())))
    return found


def _item(category: str, line: str) -> str:
    if category == "links":
        head = re.match(r"\d+: ([^:@]+)\S* .*?\bmtu (\d+)", line)
        return f"{head[1]} mtu {head[2]}" if head else ""
    return _CHANGING.sub("", line).strip()


def of_node() -> State:
    """Control groups, what stands still, and mounts."""
    groups, frozen = set(), set()
    for folder in _cgroups():
        groups.add(str(folder))
        if _is_frozen(folder):
            frozen.add(str(folder))
    return {
        "cgroups": frozenset(groups),
        "frozen cgroups": frozenset(frozen),
        "stopped processes": frozenset(_stopped()),
        "mounts": frozenset(_mounts()),
    }


def _cgroups() -> Iterator[Path]:
    number = 0
    for kind, point in _mounted():
        if kind in ("cgroup", "cgroup2"):
            for folder, _, _ in os.walk(point):
                number += 1
                if number > _FOLDERS_MAX:
                    return
                yield Path(folder)


def _is_frozen(folder: Path) -> bool:
    for name, thawed in (("freezer.self_freezing", "0"), ("cgroup.freeze", "0")):
        try:
            return (folder / name).read_text(encoding="ascii").strip() != thawed
        except OSError:
            continue
    return False


def _stopped() -> Iterator[str]:
    for pid in proc.pids():
        found = proc.stat(pid)
        if found is not None and found.state in "Tt":
            yield f"{found.name} (pid {pid}, started {found.start})"


def _mounts() -> Iterator[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            point, options = fields.split()[4:6]
            kind, source = rest.split()[:2]
            yield f"{point} {kind} {source} {options.split(',')[0]}"


def _mounted() -> Iterator[tuple[str, str]]:
    for mount in _mounts():
        point, kind, *_ = mount.split(" ")
        yield kind, point


def files_of(folders: list[Path]) -> State:
    """Names of files and directories that stand directly in *folders*, those of the agent's own keeping left out."""
    found = set()
    for folder in folders:
        try:
            found |= {str(one) for one in folder.iterdir() if not one.name.startswith(_KEPT)}
        except OSError:
            continue
    return {"files": frozenset(found)}


_KEPT: Final = ("journal", "spool", "agent.lock", "certs", "audit", "policy", "agent.yaml", "join")
