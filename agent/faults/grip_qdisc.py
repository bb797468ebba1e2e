"""Keeps a root qdisc on a device until the deadline, or until the agent is gone, and deletes it then.

It outlives the agent for a moment on purpose: a qdisc is nobody's, and the kernel would leave it where it is.
"""

from __future__ import annotations

import time
from typing import Any, Final

from agent.system import libc, qdisc

DIES_WITH_AGENT: Final = False
_set: list[dict[str, Any]] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Enters the namespace, if one is named, and sets the root, which fails where somebody has set one."""
    del deadline_ns
    if arguments["network"]:
        libc.enter_network(arguments["network"])
    kind, options = arguments["mechanism"], arguments["options"]
    encoded = qdisc.tbf(**options) if kind == "tbf" else qdisc.netem(**options)
    number, handle = arguments["device_index"], arguments["handle"]
    _set.append(arguments)
    lo_ns = time.monotonic_ns()
    try:
        qdisc.add(number, handle, kind, encoded)
    except OSError as error:
        raise OSError(
            error.errno, f"the root qdisc of {arguments['device']} stays as it is: {error.strerror}"
        ) from error
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns()}


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    """Deletes what was set; another's root has another handle and stays."""
    while _set:
        ours = _set.pop()
        qdisc.delete("", ours["device_index"], ours["handle"], ours["mechanism"])
