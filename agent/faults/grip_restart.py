"""Holds a service down: whatever matches is killed again as often as it comes back."""

from __future__ import annotations

import fnmatch
import os
import signal
import time
from typing import Any, Final

from agent.faults import target
from agent.system import proc, process
from protos.error import BlackstartError

DIES_WITH_AGENT: Final = True
_state: dict[str, Any] = {"next_s": 0.0, "kills": 0}


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Kills what matches now; reports the bounds of that first kill and who was hit."""
    del deadline_ns
    _state["arguments"] = arguments
    lo_ns = time.monotonic_ns()
    hit = _strike()
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns(), "hit": [[one.pid, one.start, one.name] for one in hit]}


def tend() -> None:
    if time.monotonic() >= _state["next_s"]:
        _strike()


def _strike() -> list[proc.Identity]:
    arguments = _state["arguments"]
    _state["next_s"] = time.monotonic() + arguments["interval_s"]
    if _state["kills"] >= arguments["kills_max"]:
        return []
    try:
        roots = target.resolve(target.ProcessSpec(pid_file=arguments["pid_file"], pattern=arguments["pattern"]))
    except BlackstartError:
        return []  # not back yet
    members = [one for root in roots for one in (proc.tree(root) if arguments["tree"] else [root])]
    chosen = [one for one in members if not _protected(one, arguments)][: arguments["targets_max"]]
    hit = [one for one in chosen if process.send(one, signal.SIGKILL)]
    _state["kills"] += bool(hit)
    return hit


def _protected(one: proc.Identity, arguments: dict[str, Any]) -> bool:
    """What no restart may become: pid 1, the agent and all above it, its guardian and holders, the policy's names."""
    line = proc.command_line(one.pid)
    if one.pid in (1, os.getpid()) or one.pid in arguments["spared_pids"] or not line:
        return True
    if "agent.guardian" in line or "agent.faults.hold" in line:
        return True
    return any(fnmatch.fnmatchcase(one.name, pattern) for pattern in arguments["protected_names"])


def let_go() -> None:
    """Nothing is held: what comes back from now on lives."""
