"""`command`: a program that the node's policy allows exits with 0."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from typing import ClassVar

from agent.probes.base import ProbeSpec
from agent.probes.limit import Limit
from protos.recovery import Code


class CommandSpec(ProbeSpec):
    argv: list[str]

    def problems(self) -> list[tuple[str, str]]:
        return [] if self.argv and self.argv[0] else [("argv", "names no program")]


class CommandProbe:
    """BAD: any other exit code. ERROR: it could not be run. What outlives the timeout is killed with its group."""

    kind: ClassVar[str] = "command"
    spec_type: ClassVar[type[ProbeSpec]] = CommandSpec

    def __init__(self, spec: CommandSpec) -> None:
        self._argv = spec.argv

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        """Nothing to make ready."""

    async def attempt(self, timeout_s: float) -> Code:
        try:
            child = await asyncio.create_subprocess_exec(
                *self._argv, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, process_group=0
            )
        except OSError:
            return Code.ERROR
        try:
            async with Limit(timeout_s):
                return Code.OK if await child.wait() == 0 else Code.BAD
        except TimeoutError:
            return Code.TIMEOUT
        finally:
            await _ended(child)

    async def close(self) -> None:
        """Nothing to release."""


async def _ended(child: Process) -> None:
    """Kills what is left of *child*'s group, and reaps it."""
    if child.returncode is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has just exited
        await asyncio.shield(child.wait())
