"""`kube`: what Kubernetes itself says of a service, a deployment or pods, to be set beside the service's own probe.

A helper process (`agent.probes.kube_watch`) keeps a watch and writes what changes; an attempt answers from that.
Invariant: an attempt is good or bad only while the watch is known to be up to date, within `stale_s`; else there is no
data. The agent itself never imports the `kubernetes` library.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from typing import Any, ClassVar, Final

import msgspec
import structlog

from agent.probes.base import ProbeSpec
from agent.probes.log import MARKS_MAX
from agent.system import kube_access
from protos.error import RefusedError
from protos.recovery import Code

OPEN_S: Final = 10.0  # for the first word of the helper; a controller waits a little longer
AGAIN_S: Final = (0.2, 5.0)  # before a helper that ended is started again
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_WHOLE: Final = frozenset({"ready", "not_ready", "watch_lost", "watch_back"})  # marks of the probe as a whole

Json = dict[str, Any]


class KubeSpec(ProbeSpec):
    """Exactly one of *service*, *deployment* and *selector* (of labels, as kubectl has it).

    service: *ready_min* endpoints are ready. selector: *ready_min* pods are Running and Ready and not being deleted.
    deployment: its rollout is complete, or, with *available_min*, so many of its pods are available. What is not there
    has none. *stale_s*: how long ago the API server must have been known to be up to date for an attempt to count.
    """

    namespace: str
    service: str = ""
    deployment: str = ""
    selector: str = ""
    ready_min: int | None = None
    available_min: int | None = None
    stale_s: float = 3.0

    def problems(self) -> list[tuple[str, str]]:
        found = []
        given = {"service": self.service, "deployment": self.deployment, "selector": self.selector}
        named = [name for name, value in given.items() if value]
        if len(named) != 1:
            found.append(("service", f"exactly one of {', '.join(given)} must be given, not {len(named)}"))
        for name in ("namespace", "service", "deployment"):
            value = getattr(self, name)
            if (value or name == "namespace") and not _NAME.fullmatch(value):
                found.append((name, f"{value!r} is no name that Kubernetes gives"))
        for name, value in (("ready_min", self.ready_min), ("available_min", self.available_min)):
            if value is not None and value < 1:
                found.append((name, f"{value} is not above 0"))
        if self.ready_min is not None and self.deployment:
            found.append(("ready_min", "a deployment has available_min"))
        if self.available_min is not None and not self.deployment:
            found.append(("available_min", "is for a deployment; this has ready_min"))
        return found if 2 <= self.stale_s <= 60 else [*found, ("stale_s", f"{self.stale_s:g} is not in 2..60")]


class KubeProbe:
    """BAD: the API server says that there are too few. ERROR: what it says now is not known."""

    kind: ClassVar[str] = "kube"
    spec_type: ClassVar[type[ProbeSpec]] = KubeSpec

    def __init__(self, spec: KubeSpec) -> None:
        self._spec, self._stale_ns = spec, round(spec.stale_s * 1e9)
        self._good: bool | None = None
        self._live_ns = self._last_ns = 0  # as of when the state is known to be true; 0: it is not; and the last such
        self._child: asyncio.subprocess.Process | None = None
        self._first = True  # its first state is still to come
        self._task: asyncio.Task[None] | None = None
        self._told = asyncio.Event()  # the helper has said something
        self._refusal = ""
        self._complaint = ""
        self._rows: list[Json] = []
        self._kept = {True: 0, False: 0}  # marks of the whole, and of parts
        self.expired = 0  # times that the server had forgotten where the watch had come to, and listed all again
        self.overflow = 0  # marks that were seen and not kept
        self._log = structlog.get_logger("agent.probes")

    @staticmethod
    def missing() -> str:
        told = kube_access.missing()
        return f"a way to Kubernetes: {told}" if told else ""

    @property
    def marks(self) -> list[Json]:
        """As those of a log probe, and *api_time*: the API server's own stamp, with its resolution of 1 s."""
        return self._rows

    @property
    def helper_pid(self) -> int | None:
        """The process that watches, while there is one."""
        return None if self._child is None else self._child.pid

    async def open(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep())
        async with contextlib.AsyncExitStack() as undo:  # refused, or cancelled: the helper ends
            undo.push_async_callback(self.close)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OPEN_S):
                    await self._told.wait()
            if self._refusal:
                raise RefusedError(f"probe {self.kind}: {self._refusal}")
            undo.pop_all()

    async def attempt(self, timeout_s: float) -> Code:
        del timeout_s  # what is known is known
        if self._live_ns and time.monotonic_ns() - self._live_ns <= self._stale_ns:
            return Code.OK if self._good else Code.BAD
        if self._live_ns:
            self._lose(f"the API server was not known to be up to date for {self._spec.stale_s:g} s")
        return Code.ERROR

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _keep(self) -> None:
        wait_s = AGAIN_S[0]
        while True:
            began_s = time.monotonic()
            try:
                await self._help()
                self._lose("the process that watches has ended")
            except OSError as error:
                self._lose(f"the process that watches cannot be started: {error}")
            self._told.set()
            wait_s = AGAIN_S[0] if time.monotonic() - began_s > AGAIN_S[1] else min(2 * wait_s, AGAIN_S[1])
            await asyncio.sleep(wait_s)

    async def _help(self) -> None:
        """One helper, from its start to its end."""
        spec = msgspec.json.encode(self._spec).decode()
        command = [sys.executable, "-m", "agent.probes.kube_watch", str(os.getpid()), spec]
        child = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
        assert child.stdout is not None
        self._child, self._first = child, True
        try:
            async for line in child.stdout:
                if line.endswith(b"\n"):  # it was not killed in the middle of it
                    self._hear(msgspec.json.decode(line))
        finally:
            self._child = None
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
            await asyncio.shield(child.wait())

    def _hear(self, told: Json) -> None:
        kind = told.pop("kind")
        if kind == "state":
            self._state(told)
        elif kind == "live":
            self._live(told["since_ns"])
        elif kind == "mark":
            self._mark(told)
        else:  # lost, expired, refused
            self.expired += kind == "expired"
            if kind == "refused" and not self._told.is_set():
                self._refusal = told["why"]
            self._lose(told["why"])
            self._told.set()

    def _state(self, told: Json) -> None:
        first, self._first = self._first, False
        if first and self._good not in (None, told["good"]):  # it changed while there was no helper
            text = f"{told['found']} of {told['wanted']}, seen late"
            self._mark({"mark": "ready" if told["good"] else "not_ready", "path": self.kind, "text": text,
                        "api_time": "", "lo_ns": self._last_ns, "hi_ns": told["at_ns"]})  # fmt: skip
        self._good = told["good"]

    def _live(self, since_ns: int) -> None:
        self._told.set()
        if time.monotonic_ns() - since_ns > self._stale_ns:
            return  # the answer was long under way
        if not self._live_ns and self._last_ns:
            text = f"{(since_ns - self._last_ns) / 1e9:.1f} s without data"
            self._mark({"mark": "watch_back", "path": "watch", "text": text, "api_time": "", "lo_ns": since_ns,
                        "hi_ns": time.monotonic_ns()})  # fmt: skip
        if self._complaint:
            self._log.info("Kubernetes is watched again", namespace=self._spec.namespace)
        self._live_ns = self._last_ns = since_ns
        self._complaint = ""

    def _lose(self, why: str) -> None:
        """From now on there is no data."""
        if self._live_ns:
            self._mark({"mark": "watch_lost", "path": "watch", "text": why, "api_time": "", "lo_ns": self._live_ns,
                        "hi_ns": time.monotonic_ns()})  # fmt: skip
        self._live_ns = 0
        if not self._complaint:  # once an outage: what follows is mostly that it cannot connect
            self._complaint = why
            self._log.warning("what Kubernetes says is not known", namespace=self._spec.namespace, why=why)

    def _mark(self, row: Json) -> None:
        whole = row["mark"] in _WHOLE
        if self._kept[whole] >= MARKS_MAX:
            self.overflow += 1
            return
        self._kept[whole] += 1
        self._rows.append(row)
