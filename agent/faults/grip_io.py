"""Holds pressure on a disk: worker processes that write and sync files without a name."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Final

from agent.system import libc, mount, proc

DIES_WITH_AGENT: Final = True
_workers: list[int] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Forks `workers` processes that write blocks of `block` bytes over a file of `size` bytes in `path`."""
    lo_ns, parent = time.monotonic_ns(), os.getpid()
    for _ in range(arguments["workers"]):
        pid = os.fork()
        if pid == 0:
            libc.die_with_parent(parent)
            _write(arguments, deadline_ns)
            os._exit(0)
        _workers.append(pid)
    identities = [identity for pid in _workers if (identity := proc.identify(pid))]
    return {
        "lo_ns": lo_ns,
        "hi_ns": time.monotonic_ns(),
        "workers": [{"pid": one.pid, "start": one.start, "name": one.name} for one in identities],
    }


def _write(arguments: dict[str, Any], deadline_ns: int) -> None:
    block, at = os.urandom(arguments["block"]), 0
    try:
        descriptor = mount.unlinked(arguments["path"])
        while time.monotonic_ns() < deadline_ns:
            os.pwrite(descriptor, block, at)
            os.fdatasync(descriptor)
            at = (at + len(block)) % arguments["size"]
    except OSError:
        return  # a full disk: this worker has done what it could


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    for pid in _workers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    _workers.clear()
