"""Holds a clock's offset: a file in this process's memory, which programs under the wrapper read by a link.

The link at the programs' offset file leads to /proc/THIS/fd/N. When this process ends, by SIGKILL too, it leads
nowhere and the programs see the node's own clock at the next reading: the kernel ends the skew. A shell that waits on
a pipe from here then takes the dangling link away; nothing depends on it.

Only a process's own user (and who may trace it) may look through its /proc/PID/fd: so the holder becomes the user of
the programs.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from agent.system import user

DIES_WITH_AGENT: Final = True
_SWEEP: Final = 'read -r _; case "$(readlink "$1")" in "$2") rm -f -- "$1" ;; esac'
_force: dict[str, Any] = {}


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Puts the offset in place; reports the bounds of the instant. OSError when something is there already."""
    del deadline_ns
    link = f"/proc/{os.getpid()}/fd/{arguments['descriptor']}"
    _force.update(arguments, since_ns=time.monotonic_ns())
    _renew()
    ours, theirs = os.pipe()  # never closed here: its end is the sign
    _force["sign"] = theirs
    subprocess.Popen(
        ["sh", "-c", _SWEEP, "blackstart-sweep", arguments["file"], link],
        stdin=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    os.close(ours)
    lo_ns = time.monotonic_ns()
    Path(arguments["file"]).symlink_to(link)
    user.become(arguments["user"], arguments["group"])
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns()}


def _renew() -> None:
    """Replaces the file as a whole: who opens it meanwhile gets the old one."""
    passed_s = (time.monotonic_ns() - _force["since_ns"]) / 1e9
    offset_s = _force["skew_s"] + passed_s * _force["drift_ppm"] / 1e6
    fresh = os.memfd_create("blackstart")
    os.write(fresh, f"{offset_s:+.6f}\n".encode())
    os.dup2(fresh, _force["descriptor"], inheritable=False)
    os.close(fresh)


def tend() -> None:
    """A drifting clock moves on."""
    if _force["drift_ppm"]:
        _renew()


def let_go() -> None:
    """The end of this process is the end of the skew."""
