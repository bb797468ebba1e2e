"""The target of `network.reset`: a process that holds both ends of four connections, in a namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.system import sock_diag
from agent.system.privilege import CAP_NET_ADMIN, has_capability
from tests.chaos.case import Case, end, line, subject

TARGET = """
import socket, time
held = []
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    listener = socket.create_server((address, 0), family=family)
    for _ in range(2):
        held += [socket.create_connection(listener.getsockname()[:2]), listener.accept()[0]]
print("ready", flush=True)
time.sleep(600)
"""


def missing() -> str:
    if os.getuid() or not has_capability(CAP_NET_ADMIN):
        return "needs root"
    return sock_diag.missing()


def established(process: subprocess.Popen[bytes]) -> int:
    """Ends of connections that /proc lists in the namespace, listeners apart."""
    count = 0
    for name in ("tcp", "tcp6"):
        try:
            rows = Path(f"/proc/{process.pid}/net/{name}").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            return 0
        count += sum(row.split()[3] == "01" for row in rows)
    return count


@subject("network.reset", missing=missing)
def reset() -> Iterator[Case]:
    script = 'ip link set lo up; exec "$0" -c "$1"'
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", script, sys.executable, TARGET], stdout=subprocess.PIPE)
    assert line(process) == b"ready\n"
    try:
        yield Case(
            "network.reset", {"network_of": {"pid": process.pid}}, lambda: {"established": established(process)},
            vanish=lambda: (process.kill(), process.wait(), None)[-1], spent=frozenset({"established"}),
        )  # fmt: skip
    finally:
        end(process)
