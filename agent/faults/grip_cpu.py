"""Holds processor load: worker processes that are busy for a fraction of every period.

Undone by the kernel: the workers die with the holder, the holder dies with the agent.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Final

from agent.system import libc, proc

DIES_WITH_AGENT: Final = True
_PERIOD_NS: Final = 20_000_000  # short against a scheduler's accounting, long against a sleep's overhead
_workers: list[int] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Forks `workers` processes, each busy for `load_fraction` of the time; reports their identities."""
    lo_ns, parent = time.monotonic_ns(), os.getpid()
    for _ in range(arguments["workers"]):
        pid = os.fork()
        if pid == 0:
            libc.die_with_parent(parent)
            _burn(arguments["load_fraction"], deadline_ns)
            os._exit(0)
        _workers.append(pid)
    identities = [identity for pid in _workers if (identity := proc.identify(pid))]
    return {
        "lo_ns": lo_ns,
        "hi_ns": time.monotonic_ns(),
        "workers": [{"pid": one.pid, "start": one.start, "name": one.name} for one in identities],
    }


def _burn(load_fraction: float, deadline_ns: int) -> None:
    busy_ns = int(_PERIOD_NS * load_fraction)
    period_ends = time.monotonic_ns()
    while period_ends < deadline_ns:
        busy_until, period_ends = period_ends + busy_ns, period_ends + _PERIOD_NS
        while time.monotonic_ns() < busy_until:
            pass
        if (rest_ns := period_ends - time.monotonic_ns()) > 0:
            time.sleep(rest_ns / 1e9)
        else:  # not scheduled for a while: do not make up for it
            period_ends = time.monotonic_ns()


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    for pid in _workers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    _workers.clear()
