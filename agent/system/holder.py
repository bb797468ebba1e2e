"""Holders: child processes that keep a fault in force just by living.

Invariant: a holder dies with the agent (the kernel sends it SIGKILL), exits by itself at its deadline, and leaves
nothing behind when it dies by whatever means: the kernel drops what it held (tracing, owned nftables tables, CPU time).
It takes hold only when the agent says go, after the agent has its identity in the journal.

Fork holders on the main thread only: PR_SET_PDEATHSIG watches the thread that forked, not the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Final

from agent.system import proc, process
from protos.error import FaultError

_START_TIMEOUT_S: Final = 10.0  # a busy node forks Python slowly; nothing is in force before the holder says so
_CHILDREN: Final[dict[int, subprocess.Popen[bytes]]] = {}


class Holder:
    """One running holder, from the agent's side."""

    def __init__(self, kind: str, arguments: dict[str, Any], deadline_ns: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("holders are forked on the main thread only")
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-m", "agent.faults.hold", kind, str(deadline_ns), str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0,
        )  # fmt: skip
        _CHILDREN[self._child.pid] = self._child
        identity = proc.identify(self._child.pid)
        if identity is None:
            raise FaultError(f"{kind}: the process that was to hold the fault died at its start")
        self.identity = identity
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(arguments).encode() + b"\n")
        self._child.stdin.flush()

    def dismiss(self) -> None:
        """Ends its input: it lets go by itself, after what it has begun. Harmless to repeat."""
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()

    async def engage(self) -> dict[str, Any]:
        """Says go; returns what the holder reports once the fault is in force. FaultError if it cannot be."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(b"go\n")
            self._child.stdin.flush()
        except (BrokenPipeError, ValueError) as error:  # ValueError: dismissed
            raise FaultError("the process that was to hold the fault died at its start") from error
        try:
            line = await asyncio.wait_for(self._line(), _START_TIMEOUT_S)
        except TimeoutError as error:  # what it has begun is for the revert, which ends it
            raise FaultError(f"the holder did not take hold within {_START_TIMEOUT_S:g} s") from error
        report: dict[str, Any] = json.loads(line) if line else {"error": "the holder died before the fault took hold"}
        if "error" in report:
            await release(self.identity)
            raise FaultError(report["error"])
        return report

    async def _line(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        assert self._child.stdout is not None
        descriptor = self._child.stdout.fileno()
        loop.add_reader(descriptor, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)
        # A holder writes its report in one piece, shorter than a pipe's buffer.
        return self._child.stdout.readline()


async def engage(holder: Holder | None) -> dict[str, Any]:
    """`Holder.engage`; FaultError when the holder was let go before it came to it."""
    if holder is None:
        raise FaultError("reverted before it took hold")
    return await holder.engage()


async def release(identity: proc.Identity, timeout_s: float = 2.0) -> bool:
    """Kills a holder, also from a process that did not fork it; True when it is gone. Harmless to repeat."""
    process.send(identity, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    ended = await process.gone([identity], timeout_s)
    if child := _CHILDREN.pop(identity.pid, None):
        while child.poll() is None and time.monotonic() < deadline:  # the pidfd tells before the parent may reap
            await asyncio.sleep(0.001)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
    return bool(ended)
