"""`process`: it is there and runs: not stopped, not traced, not a zombie."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any, ClassVar, Final

from agent.probes.base import ProbeSpec
from agent.system import proc, small_file
from protos.recovery import Code

TICKS_S: Final = os.sysconf("SC_CLK_TCK")
SETTLED_S: Final = 2.0
RESCAN_S: Final = 1.0
MATCH_S: Final = 0.1  # for all processes together: a pattern comes from outside, and can take for ever
PATTERN_MAX: Final = 1000
_PID_BYTES: Final = 32


class ProcessSpec(ProbeSpec):
    """Exactly one of *pid_file*, *pid* and *pattern* names the process, as for the faults on processes."""

    pid_file: str = ""
    pid: int = 0
    pattern: str = ""  # regular expression, searched in the command line

    def problems(self) -> list[tuple[str, str]]:
        found = []
        if (bool(self.pid_file) + bool(self.pid) + bool(self.pattern)) != 1:
            found.append(("pid_file", "exactly one of pid_file, pid and pattern must name the process"))
        if self.pid < 0:
            found.append(("pid", f"{self.pid} is not above 0"))
        if len(self.pattern) > PATTERN_MAX:
            found.append(("pattern", f"longer than {PATTERN_MAX} characters"))
        elif self.pattern:
            import regex  # late: only probes by pattern need it

            try:
                regex.compile(self.pattern)
            except regex.error as error:
                found.append(("pattern", f"not a regular expression: {error}"))
        return found


def _compiled(pattern: str) -> Any:
    """By a library that gives up in time."""
    if not pattern:
        return None
    import regex

    return regex.compile(pattern)


class ProcessProbe:
    """REFUSED: no such process. BAD: stopped or traced. By pid: the process that had the pid when the probe opened."""

    kind: ClassVar[str] = "process"
    spec_type: ClassVar[type[ProbeSpec]] = ProcessSpec

    def __init__(self, spec: ProcessSpec) -> None:
        self._spec, self._pattern = spec, _compiled(spec.pattern)
        self._found: proc.Identity | None = None
        # Pids that do not match. Between fork and exec a child shows its parent's command line, so young ones are not
        # remembered; and all are looked at again now and then, since a process may exec, and a pid be used again.
        self._known: set[int] = set()
        self._scanned_s = 0.0

    @staticmethod
    def missing() -> str:
        return "" if Path("/proc/self/stat").exists() else "/proc"

    async def open(self) -> None:
        with contextlib.suppress(OSError):
            self._found = proc.identify(self._spec.pid) if self._spec.pid else self._look()

    async def attempt(self, timeout_s: float) -> Code:
        del timeout_s  # /proc answers at once
        try:
            state = self._state()
            if state is None and not self._spec.pid:
                self._found = self._look()
                state = self._state()
        except OSError:
            return Code.ERROR
        if state is None:
            return Code.REFUSED
        return Code.BAD if state in "Tt" else Code.OK

    async def close(self) -> None:
        self._found = None
        self._known.clear()

    def _state(self) -> str | None:
        """State of the process found before; None if it is gone or a zombie."""
        if self._found is None:
            return None
        seen = proc.stat(self._found.pid)
        return None if seen is None or seen.start != self._found.start or seen.state in "ZX" else seen.state

    def _look(self) -> proc.Identity | None:
        if self._spec.pid_file:
            try:
                return proc.identify(int(small_file.read(self._spec.pid_file, _PID_BYTES)))
            except (FileNotFoundError, ValueError, OverflowError):
                return None  # between two lives the file is absent, empty or torn
        until, now_s = time.monotonic() + MATCH_S, time.clock_gettime(time.CLOCK_BOOTTIME)
        if now_s - self._scanned_s > RESCAN_S:
            self._known.clear()
            self._scanned_s = now_s
        for pid in sorted(set(proc.pids()) - self._known - {os.getpid()}):
            line, seen = proc.command_line(pid), proc.stat(pid)
            if seen is None or seen.state in "ZX":
                continue
            if line and self._pattern.search(line, timeout=max(0.001, until - time.monotonic())):
                return proc.Identity(pid, seen.start, seen.name)
            if now_s - seen.start / TICKS_S > SETTLED_S:
                self._known.add(pid)
        return None
