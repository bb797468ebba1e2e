"""What a holder runs: `python -m agent.faults.hold KIND DEADLINE_NS PARENT_PID`.

Reads its arguments as one JSON line, waits for the line `go`, takes hold, writes one JSON line of report and stays
until its deadline or until its input ends. Whatever it held ends with it.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from agent.system import clock, libc


class Grip(Protocol):
    """What one kind of holder does; modules `agent.faults.grip_*` have these three names."""

    DIES_WITH_AGENT: bool
    take: Callable[[dict[str, Any], int], dict[str, Any]]  # arguments, deadline_ns -> report
    let_go: Callable[[], None]
    tend: Callable[[], None]  # called about every TEND_S while in force


TEND_S: Final = 0.05


def main(argv: list[str]) -> None:
    kind, deadline_ns, parent = argv[0], int(argv[1]), int(argv[2])
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's Ctrl-C is for the agent, which then ends its holders
    libc.die_with_parent(parent)  # while nothing is in force: loading a library may take a second
    grip: Grip = importlib.import_module(f"agent.faults.grip_{kind}")
    lines = sys.stdin.buffer.raw  # type: ignore[union-attr] # unbuffered: poll() must see what is unread
    arguments = json.loads(_line(lines))
    if _line(lines) != b"go\n":
        return  # the agent died or thought better of it: nothing was in force
    if not grip.DIES_WITH_AGENT:
        libc.outlive_parent()
        if _is_alone():
            return  # the agent said go, and died or thought better of it since
    try:
        report = grip.take(arguments, deadline_ns)
    except OSError as error:
        grip.let_go()
        report = {"error": str(error)}
    try:
        os.write(1, json.dumps(report).encode() + b"\n")
        if "error" not in report:
            _stay(deadline_ns, grip.tend)
    except BrokenPipeError:
        pass  # the agent is gone: let go at once
    finally:
        grip.let_go()


def _is_alone() -> bool:
    """Whether nobody can say anything any more."""
    poll = select.poll()
    poll.register(0, select.POLLHUP)
    return bool(poll.poll(0))


def _line(source: Any) -> bytes:
    """One line, read byte by byte so that nothing behind it is taken from the pipe."""
    line = b""
    while not line.endswith(b"\n"):
        byte = source.read(1)
        if not byte:
            break
        line += byte
    return line


def _stay(deadline_ns: int, tend: Callable[[], None]) -> None:
    poll, suspended = select.poll(), clock.suspended_ns()
    poll.register(0, select.POLLIN | select.POLLHUP)
    while (left_s := clock.left_ns(deadline_ns, suspended) / 1e9) > 0:
        if poll.poll(min(left_s, TEND_S) * 1000):
            return
        tend()


if __name__ == "__main__":
    main(sys.argv[1:])
