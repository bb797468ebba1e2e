"""`encode`: real video encoded on this node, measured job by job, in processes of its own.

The agent imports no media library: `agent.workloads.encode` does it all and ends with the agent. What it writes is in
one folder below the agent's state, removed when it ends; what a killed agent left there, its next start removes.
"""

from __future__ import annotations

import asyncio
import fnmatch
import importlib.util
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import structlog

from agent.workloads import encode_figure
from agent.workloads.base import Done
from agent.workloads.child import Child, error_of
from agent.workloads.encode.spec import EncodeSpec, parse
from protos.error import RefusedError

Json = dict[str, Any]
_END_S: Final = 15.0  # beyond the spec's own time: for the process to start and to say its last word


class Limits(NamedTuple):
    """Of the node's policy: which files may be read (patterns), and how many jobs may run at a time."""

    inputs: Sequence[str]
    jobs_max: int


class EncodeWorkload:
    """One at a time: two would measure each other. *folder*: for outputs. *say*: progress, as an event of the run."""

    kind: ClassVar[str] = "encode"

    def __init__(self, folder: Path, limits: Callable[[], Limits], say: Callable[[str, str], None]) -> None:
        self._folder, self._limits, self._say = folder, limits, say
        self._child: Child | None = None
        self._run_id, self._ended = "", asyncio.Event()

    async def run(self, run_id: str, document: Json) -> Done:
        spec = parse(document)
        self._check(spec)
        self._run_id, self._ended = run_id, asyncio.Event()
        self._child = child = Child("agent.workloads.encode", [str(self._folder)], lambda text: self._say(run_id, text))
        try:
            self.forget()
            self._folder.mkdir(parents=True, mode=0o700)
            answer = await child.run(document, spec.timeout_s + _END_S)
        finally:
            if not spec.keep:
                self.forget()
            self._run_id, self._child = "", None
            self._ended.set()
        if "result" not in answer:
            raise error_of(answer)
        result = answer["result"]
        detail = result | {"objectives": encode_figure.objectives(result), "lines": encode_figure.lines(result)}
        return Done(encode_figure.figures(result), detail, encode_figure.summary(result))

    async def end(self, run_id: str | None = None) -> None:
        """Ends the encoding of that run, or any; returns once it is gone."""
        if self._child is not None and run_id in (None, self._run_id):
            child, ended = self._child, self._ended
            child.end()
            try:
                await asyncio.wait_for(ended.wait(), _END_S)
            except TimeoutError:
                child.kill()
                await ended.wait()

    def forget(self) -> None:
        """Removes what is in the folder: also what an agent that was killed left there."""
        try:
            shutil.rmtree(self._folder)
        except FileNotFoundError:
            pass
        except OSError as error:  # a link, a file, a disk that takes no writes: no reason to end the agent
            log = structlog.get_logger("agent.encode")
            log.warning("cannot be removed", path=str(self._folder), error=str(error))

    @staticmethod
    def missing() -> str:
        """What this node lacks to encode; nothing is imported."""
        return "" if importlib.util.find_spec("av") else "PyAV (pip install 'blackstart[media]')"

    def _check(self, spec: EncodeSpec) -> None:
        """RefusedError by the policy, before anything is started."""
        if lacks := self.missing():
            raise RefusedError(f"encode cannot run on this node: it lacks {lacks}")
        if self._child is not None:
            raise RefusedError(f"an encoding of run {self._run_id} is under way: two would measure each other")
        limits = self._limits()
        for one in spec.inputs:
            if one.path and not _allowed(one.path, limits.inputs):
                opted = ", ".join(limits.inputs) or "none"
                raise RefusedError(f"the node's policy does not allow to read {one.path} (it does: {opted})")
        jobs = max(spec.closed.jobs if spec.closed else [spec.open.workers if spec.open else 1])
        if jobs > limits.jobs_max:
            raise RefusedError(f"{jobs} jobs at a time are more than the node's policy allows ({limits.jobs_max})")


def _allowed(path: str, patterns: Sequence[str]) -> bool:
    """By what the path leads to: neither `..` nor a link goes around a pattern."""
    real = os.path.realpath(path)
    return any(fnmatch.fnmatchcase(real, pattern) for pattern in patterns)
