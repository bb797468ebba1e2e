"""Holds a pass-through over a directory (`agent.faults.file_server`), which ends when this process does.

The mount is not undone by the kernel. The server detaches it when this process is gone; this process detaches it when
the server is gone, which leaves a mount that answers nothing; the guardian and the journal stand behind both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from agent.system import mountspace

DIES_WITH_AGENT: Final = False
_force: dict[str, Any] = {}


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Starts the server, which mounts; its report, with its identity."""
    server = subprocess.Popen(
        [sys.executable, "-I", "-m", "agent.faults.file_server", arguments["source"]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
    )  # fmt: skip
    _force.update(arguments, server=server)
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps({**arguments, "deadline_ns": deadline_ns}).encode() + b"\n")
    server.stdin.flush()
    line = server.stdout.readline()
    report: dict[str, Any] = json.loads(line) if line else {"error": "the pass-through died at its start"}
    if "error" in report:
        raise OSError(report["error"])
    return report


def tend() -> None:
    """A dead server's mount fails everything in a way that nobody asked for: it goes, and so does this process."""
    if _force["server"].poll() is not None:
        raise SystemExit(0)


def let_go() -> None:
    if not _force:
        return
    server = _force["server"]
    server.stdin.close()  # it ends the fault, detaches the mount, and stays while files are open
    if server.poll() is not None:
        mountspace.detach(_force["source"], _force["namespace_inode"])
