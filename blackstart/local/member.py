"""One process of a local stack: started tethered, its output kept, stopped by its own means before force."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from protos.error import BlackstartError, Exit, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blackstart.local.namespace import Host

_STOP_S: Final = 15.0  # an agent that has to retry a revert takes a few seconds
_LINES: Final = 8  # of a log, shown when its process failed


class Member:
    """A running process; its standard error goes to *log*, its standard output there too unless *piped*."""

    def __init__(
        self, name: str, argv: Sequence[str], *, log: Path, host: Host | None = None,
        env: Mapping[str, str] | None = None, piped: bool = False,
    ) -> None:  # fmt: skip
        self.name, self._log = name, log
        # Inside a host the parent is outside of its pid namespace, and reads as 0: the host itself ends with us.
        parent = "0" if host else str(os.getpid())
        command = [sys.executable, "-m", "blackstart.local.tether", parent, *argv]
        variables = {**os.environ, **(env or {})}
        with log.open("ab") as output:
            stdout: int | IO[bytes] = subprocess.PIPE if piped else output
            if host is not None:
                self.process = host.spawn(command, env=variables, stdout=stdout, stderr=output)
            else:
                self.process = subprocess.Popen(
                    command, env=variables, stdin=subprocess.DEVNULL, stdout=stdout, stderr=output, process_group=0
                )

    def first_line(self) -> dict[str, Any]:
        """The JSON line that the process writes once it serves; BlackstartError with its log if it ends instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise self.failure() from error
        return answer

    def running(self) -> bool:
        return self.process.poll() is None

    def failure(self) -> BlackstartError:
        """What to say of a process that did not do its part."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:]
        how = "does not get ready" if self.running() else f"ended with status {self.process.returncode}"
        kind = RefusedError if self.process.returncode == int(Exit.BAD_INPUT) else BlackstartError
        return kind("\n".join([f"{self.name} {how}; the end of {self._log}:", *lines]))

    def stop(self) -> None:
        """SIGTERM, then SIGKILL if it takes too long; harmless to repeat."""
        if self.running():
            self.process.terminate()
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def wait_for(check: Any, member: Member, timeout_s: float) -> Any:
    """The first true answer of *check*; BlackstartError with the member's log when it ends or takes too long."""
    until = time.monotonic() + timeout_s
    while not (answer := check()):
        if not member.running() or time.monotonic() > until:
            raise member.failure()
        time.sleep(0.05)
    return answer
