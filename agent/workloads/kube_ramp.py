"""`kube.ramp`: has a cluster go from a few pods to many and back, and tells what bound it.

A process of its own does it (`agent.workloads.ramp`), which alone loads the Kubernetes client. Invariant: what a ramp
makes bears its label, and a record of it is on disk before the first request, until its removal is verified.
Whichever process is killed, the other removes: the ramp's own at the agent's death, the agent at the ramp's, and where
both died the agent's next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import os
import re
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
import structlog

from agent.system import kube_access
from agent.workloads import ramp_figure
from agent.workloads.base import Done
from agent.workloads.ramp.spec import FOREIGN, NOTHING, PLAYED, RAMP, RampSpec, parse
from protos.error import BlackstartError, ProbeError, RefusedError, SpecError, StrandedError

Json = dict[str, Any]
_SAY_S: Final = 2.0  # between two lines of progress
_START_S: Final = 30.0  # of the process and its library
_END_S: Final = 5.0  # beyond the removal's own time
_AGAIN_S: Final = 5.0  # until a removal that failed is tried again, at the start; doubled
_AGAIN_S_MAX: Final = 120.0
_LINE_MAX: Final = 16_000_000
_NOT_OF_LABELS: Final = re.compile(r"[^-A-Za-z0-9_.]")


class Limits(NamedTuple):
    """Of the node's policy: in which namespaces (patterns), how many pods, of which images, on which nodes."""

    namespaces: Sequence[str]
    pods_max: int
    protected: Sequence[str] = ()  # namespaces in which they may not all the same
    images: Sequence[str] = (NOTHING,)  # patterns
    real_nodes: bool = False  # whether also on nodes that are not played
    nodes: Sequence[str] = ("*",)  # on which faults may act: of real ones none is chosen where this names some


class _Record(msgspec.Struct):
    """On disk, of a ramp whose removal is not verified yet."""

    ramp: str
    run: str
    spec: Json


class RampWorkload:
    """One ramp at a time. *folder*: for records. *say*: progress, as an event of the run."""

    kind: ClassVar[str] = "kube.ramp"

    def __init__(self, folder: Path, limits: Callable[[], Limits], say: Callable[[str, str], None]) -> None:
        self._folder, self._limits, self._say = folder, limits, say
        self._child: asyncio.subprocess.Process | None = None
        self._run_id, self._ended = "", asyncio.Event()
        self._ending = False  # asked for; the process may not be there yet
        self._log = structlog.get_logger("agent.ramp")

    async def run(self, run_id: str, document: Json) -> Done:
        spec = parse(document)
        self._check(spec)
        self._run_id, self._ended, self._ending = run_id, asyncio.Event(), False
        record = _Record(f"ramp-{secrets.token_hex(4)}", _NOT_OF_LABELS.sub("-", run_id)[:63].strip("-_."), document)
        try:
            self._keep(record)
            answer = await self._process("run", record, spec, spec.timeout_s + _START_S)
            await self._removed(record, spec, answer)
        finally:
            self._run_id = ""
            self._ended.set()
        if "result" not in answer:
            raise _error(answer)
        result = answer["result"]
        detail = result | {"objectives": ramp_figure.objectives(result)}
        return Done(ramp_figure.figures(result), detail, ramp_figure.summary(result))

    async def end(self, run_id: str | None = None) -> None:
        """Ends the ramp of that run, or any; returns once it is removed."""
        if not self._run_id or run_id not in (None, self._run_id):
            return
        self._ending = True
        if self._child is not None:
            _tell_to_end(self._child)
        await self._ended.wait()

    async def recover(self) -> None:
        """Removes what ramps before this start of the agent left behind, and returns once all of it is gone.

        It is tried again, more and more rarely, between ramps. A try that was begun is ended also when cancelled.
        """
        left, pause_s = sorted(self._folder.glob("*.json")) if self._folder.is_dir() else [], _AGAIN_S
        while True:
            attempt = asyncio.ensure_future(self._recovered(left))
            try:
                left = await asyncio.shield(attempt)
            except asyncio.CancelledError:
                await attempt
                raise
            if not left:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(_AGAIN_S_MAX, pause_s * 2)
            while self._run_id:
                await self._ended.wait()

    async def _recovered(self, paths: Sequence[Path]) -> list[Path]:
        """Removes the ramps of these records; those of which something is left."""
        left = []
        for path in paths:
            try:
                record = msgspec.json.decode(path.read_bytes(), type=_Record)
                spec = parse(record.spec)
            except (OSError, msgspec.DecodeError, BlackstartError) as error:
                self._log.error("record of a ramp cannot be read", path=str(path), error=str(error))
                continue
            try:
                await self._removed(record, spec, {})
                self._log.info("a ramp before was removed", ramp=record.ramp, namespace=spec.namespace)
            except BlackstartError as error:
                self._log.error("a ramp before is not removed", ramp=record.ramp, error=str(error))
                left.append(path)
        return left

    def _check(self, spec: RampSpec) -> None:
        limits = self._limits()
        if not any(fnmatch.fnmatchcase(spec.namespace, pattern) for pattern in limits.namespaces):
            opted = ", ".join(limits.namespaces) or "none"
            told = f"the node's policy does not allow ramps in namespace {spec.namespace} (it does in: {opted})"
            raise RefusedError(told)
        for pattern in limits.protected:
            if fnmatch.fnmatchcase(spec.namespace, pattern):
                raise RefusedError(f"namespace {spec.namespace} is protected by the node's policy ({pattern})")
        if spec.to > limits.pods_max:
            raise RefusedError(f"{spec.to} pods are more than the node's policy allows a ramp ({limits.pods_max})")
        _check_pods(spec, limits)
        if told := kube_access.missing():
            raise RefusedError(told)
        if self._run_id:
            raise RefusedError(f"a ramp of run {self._run_id} is under way: two would measure each other")

    def _keep(self, record: _Record) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{record.ramp}.json"
        with path.open("wb") as file:
            file.write(msgspec.json.encode(record))
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    async def _removed(self, record: _Record, spec: RampSpec, answer: Json) -> None:
        """Makes sure of the removal; StrandedError with the command for a human."""
        removal = (answer.get("result") or answer).get("removal")
        if removal is None or removal["left"]:
            self._say(record.run, f"removing what ramp {record.ramp} left behind")
            removal = (await self._process("sweep", record, spec, spec.removal_s + _START_S)).get("result")
        if removal is None or removal["left"]:
            left = ", ".join(removal["left"][:5]) if removal else "unknown, the cluster did not answer"
            raise StrandedError(
                f"ramp {record.ramp} could not be removed ({left}); by hand: kubectl -n {spec.namespace} delete "
                f"horizontalpodautoscalers,deployments,pods -l {RAMP}={record.ramp}"
            )
        if (told := str(removal.get("namespace"))).startswith(FOREIGN):
            self._say(record.run, f"namespace {spec.namespace} {told}")
        (self._folder / f"{record.ramp}.json").unlink(missing_ok=True)

    async def _process(self, what: str, record: _Record, spec: RampSpec, timeout_s: float) -> Json:
        """Runs the process to its end; its last word, or an error that says how it died."""
        temporary = self._folder / f"{record.ramp}.tmp"  # the library writes keys into files
        temporary.mkdir(mode=0o700, exist_ok=True)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent.workloads.ramp", what, record.ramp, record.run, str(os.getpid()),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={**os.environ, "TMPDIR": str(temporary)},
            limit=_LINE_MAX, process_group=0,
        )  # fmt: skip
        try:
            if what == "run":  # a removal is never told to end
                if self._ending:  # before it had its spec: it has made nothing
                    return {"error": "the ramp was ended before it began", "kind": "probe", "removal": {"left": []}}
                self._child = child
            assert child.stdin is not None
            child.stdin.write(msgspec.json.encode(record.spec) + b"\n")
            return await asyncio.wait_for(self._follow(child, record), timeout_s)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            return {"error": f"the ramp's process did not end within {timeout_s:g} s", "kind": "probe"}
        except asyncio.CancelledError:
            if what == "run":
                _tell_to_end(child)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), spec.removal_s + _END_S)
            raise
        finally:
            _kill(child)
            await child.wait()
            self._child = None
            shutil.rmtree(temporary, ignore_errors=True)

    async def _follow(self, child: asyncio.subprocess.Process, record: _Record) -> Json:
        assert child.stdout is not None
        loop, said_s = asyncio.get_running_loop(), 0.0
        while line := await child.stdout.readline():
            document: Json = msgspec.json.decode(line)
            if "say" not in document:
                return document
            if loop.time() - said_s >= _SAY_S:
                said_s = loop.time()
                self._say(self._run_id or record.run, document["say"])
        code = await child.wait()
        return {"error": f"the ramp's process ended with status {code} before it was through", "kind": "probe"}


def _check_pods(spec: RampSpec, limits: Limits) -> None:
    """What code is run, and where: RefusedError for what the node's policy does not name."""
    if not any(fnmatch.fnmatchcase(spec.image, pattern) for pattern in limits.images):
        opted = ", ".join(limits.images) or "none"
        raise RefusedError(f"the node's policy does not allow ramps of image {spec.image} (it does of: {opted})")
    if spec.played:
        return
    if not limits.real_nodes:
        told = f"without {PLAYED}: true in node_selector pods may come to real nodes"
        raise RefusedError(f"{told}, which the node's policy does not allow (`ramp_real_nodes`)")
    if "*" not in limits.nodes:
        named = ", ".join(limits.nodes) or "none"
        told = f"the node's policy names nodes ({named}), and which ones the pods of a ramp come to cannot be told"
        raise RefusedError(told)


def _tell_to_end(child: asyncio.subprocess.Process) -> None:
    """SIGTERM, on which it removes."""
    with contextlib.suppress(ProcessLookupError):
        child.terminate()


def _kill(child: asyncio.subprocess.Process) -> None:
    """With its creators, which are in its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _error(answer: Json) -> BlackstartError:
    kinds: dict[str, type[BlackstartError]] = {"spec": SpecError, "refused": RefusedError}
    return kinds.get(str(answer.get("kind")), ProbeError)(str(answer.get("error")))
