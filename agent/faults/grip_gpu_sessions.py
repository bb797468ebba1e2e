"""Holds encode sessions of a GPU: the driver closes them with the process."""

from __future__ import annotations

import time
from typing import Any, Final

from agent.system import cuda

DIES_WITH_AGENT: Final = True
_MOST: Final = 4096
_held: list[cuda.Encoder] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Opens `sessions`, or (0) as many as there are; reports how many, and NVENC's last status."""
    lo_ns, opened, status = time.monotonic_ns(), 0, 0
    encoder = cuda.Encoder(cuda.Context(arguments["uuid"]))
    _held.append(encoder)
    while opened < (arguments["sessions"] or _MOST) and time.monotonic_ns() < deadline_ns:
        status = encoder.open_session()
        if status:
            break
        opened += 1
    if not opened:
        raise OSError(f"no encode session could be opened (NVENC status {status})")
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns(), "opened": opened, "status": status}


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    """The end of this process closes the sessions."""
