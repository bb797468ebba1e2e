"""Holds device memory of a GPU: the driver frees it with the process."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

from agent.system import cuda

DIES_WITH_AGENT: Final = True
_PIECE: Final = 256 << 20
_held: list[cuda.Context] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Allocates `bytes`, in pieces, or as many as there are; reports how many."""
    del deadline_ns
    lo_ns, taken = time.monotonic_ns(), 0
    context = cuda.Context(arguments["uuid"])
    _held.append(context)
    with contextlib.suppress(OSError):
        while taken < arguments["bytes"]:
            size = min(_PIECE, arguments["bytes"] - taken)
            context.allocate(size)
            taken += size
    if not taken:
        raise OSError("the GPU has no memory left to take")
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns(), "bytes": taken}


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    """The end of this process frees the memory."""
