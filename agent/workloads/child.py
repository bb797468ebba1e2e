"""A workload's own process, from the agent's side: started with a spec, listened to, ended.

Invariant: `run` returns or raises only once the process and everything in its process group is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from protos.error import BlackstartError, ProbeError, RefusedError, SpecError

Json = dict[str, Any]
_SAY_S: Final = 2.0  # between two lines of progress
_LINE_MAX: Final = 16_000_000


class Child:
    """One run of `python -m MODULE ARGUMENTS… AGENT_PID`, whose input is one line of JSON. *say*: progress."""

    def __init__(self, module: str, arguments: Sequence[str], say: Callable[[str], None]) -> None:
        self._module, self._arguments, self._say = module, arguments, say
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False

    async def run(self, document: Json, timeout_s: float, environment: Mapping[str, str] | None = None) -> Json:
        """Its last word, `{"result": …}` or `{"error": …, "kind": …}`; of one that dies or is too slow, an error."""
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, *self._arguments, str(os.getpid()),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **(environment or {})}, limit=_LINE_MAX, process_group=0,
        )  # fmt: skip
        try:
            if self._ending:  # it was told so while it was being started
                self.end()
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(document) + b"\n")
            return await asyncio.wait_for(self._follow(process), timeout_s)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            return {"error": f"the workload's process did not end within {timeout_s:g} s", "kind": "probe"}
        finally:
            self.kill()
            await process.wait()
            self._process = None

    def end(self) -> None:
        """SIGTERM, on which it cleans up and says its last word; at once, or as soon as it has been started."""
        self._ending = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to all of its process group, for one that does not end."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _follow(self, process: asyncio.subprocess.Process) -> Json:
        assert process.stdout is not None
        loop, said_s = asyncio.get_running_loop(), 0.0
        while line := await process.stdout.readline():
            document: Json = msgspec.json.decode(line)
            if "say" not in document:
                return document
            if loop.time() - said_s >= _SAY_S:
                said_s = loop.time()
                self._say(document["say"])
        code = await process.wait()
        if self._ending:
            return {"error": "the workload was ended before it was through", "kind": "probe"}
        return {"error": f"the workload's process ended with status {code} before it was through", "kind": "probe"}


def error_of(answer: Json) -> BlackstartError:
    """The error that an answer without a result is."""
    kinds: dict[str, type[BlackstartError]] = {"spec": SpecError, "refused": RefusedError}
    return kinds.get(str(answer.get("kind")), ProbeError)(str(answer.get("error")))
