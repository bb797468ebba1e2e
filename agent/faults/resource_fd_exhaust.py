"""`resource.fd_exhaust`: a process can open no more files."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from agent.faults import target
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.system import proc, process
from agent.system.privilege import CAP_SYS_RESOURCE, has_capability
from protos.error import FaultError, Problem, SpecError


class FdExhaustSpec(target.ProcessSpec, kw_only=True, forbid_unknown_fields=True):
    leave: Annotated[int, Meta(ge=0, description="descriptors that it may still open")] = 0


class ResourceFdExhaust:
    """Confirmed by the limit that /proc shows and by the target's own descriptors."""

    kind: ClassVar[str] = "resource.fd_exhaust"
    spec: ClassVar[type[msgspec.Struct]] = FdExhaustSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="A process can open no more files or sockets: every try ends with EMFILE.",
        mechanism="prlimit(2) lowers its soft limit of open files to its lowest free descriptor.",
        proof="/proc shows the lowered limit, and no free descriptor below it.",
        ends="The agent, the guardian, or the agent's next start sets the soft limit back to what it was; the hard "
        "limit is "
        "never touched.",
        limits="Descriptors that are open stay open; one that the target closes can be opened again. A target that "
        "raises "
        "its own limit meanwhile ends the fault, and what it set is left alone.",
        example={"pid_file": "/run/segmenter.pid"},
        source="prlimit(2), proc(5)",
    )

    def missing(self) -> str:
        return ""

    def plan(self, spec: FdExhaustSpec) -> list[Effect]:
        roots = target.resolve(spec)
        members = [one for root in roots for one in (proc.tree(root) if spec.tree else [root])]
        return [effect for one in members if (effect := self._plan(one, spec.leave))]

    def _plan(self, one: proc.Identity, leave: int) -> Effect | None:
        try:
            soft, hard = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
            lowered = _lowest_free(one.pid) + leave
        except (ProcessLookupError, FileNotFoundError):
            return None
        except PermissionError as error:
            lacks = "" if has_capability(CAP_SYS_RESOURCE) else "; run the agent as its user or root"
            raise SpecError(Problem("spec", f"{one.name} (pid {one.pid}): not permitted{lacks}")) from error
        if soft != resource.RLIM_INFINITY and lowered >= soft:
            raise SpecError(Problem("spec.leave", f"{one.name} (pid {one.pid}) may open only {soft} anyway"))
        return Effect(
            fault=self.kind,
            resource=f"process:{one.pid}:{one.start}:files",
            description=f"at most {leave} more open files for {one.name} (pid {one.pid})",
            undo=self.undo,
            touches=Touched(processes=[one]),
            facts={"target": msgspec.to_builtins(one), "soft": soft, "hard": hard, "lowered": lowered, "leave": leave},
        )

    def prepare(self, effect: Effect) -> None:
        """Nothing has to live for a limit."""

    async def inject(self, effect: Effect) -> Injected:
        one, facts = _target(effect), effect.facts
        lo_ns = time.monotonic_ns()
        held = process.open_pidfd(one)
        if held is None:
            raise FaultError(f"{effect.description}: the target was gone")
        try:
            if resource.prlimit(one.pid, resource.RLIMIT_NOFILE)[0] != facts["soft"]:
                raise FaultError(f"{effect.description}: somebody else has changed its limit meanwhile")
            resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (facts["lowered"], facts["hard"]))
        except OSError as error:
            raise FaultError(f"{effect.description}: {error.strerror}") from error
        finally:
            os.close(held)
        return Injected(lo_ns, time.monotonic_ns())

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        one, facts = _target(effect), effect.facts
        limit, free = _soft_limit(one), _lowest_free(one.pid) if proc.alive(one) else 0
        confirmed = limit == facts["lowered"] and limit - free <= facts["leave"]
        text = f"/proc shows a limit of {limit} open files (was {facts['soft']}); its lowest free descriptor is {free}"
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def revert(self, effect: Effect) -> None:
        one, facts = _target(effect), effect.facts
        held = process.open_pidfd(one)
        if held is None:
            return
        try:
            soft, hard = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
            if soft == facts["lowered"]:
                resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (facts["soft"], hard))
        finally:
            os.close(held)

    def gone(self, effect: Effect) -> bool:
        return not proc.alive(_target(effect))

    def residue(self, effect: Effect) -> list[str]:
        one, facts = _target(effect), effect.facts
        if proc.alive(one) and _soft_limit(one) == facts["lowered"]:
            return [f"{one.name} (pid {one.pid}) may still open only {facts['lowered']} files"]
        return []

    def remedy(self, effect: Effect) -> str:
        return f"prlimit --pid {effect.facts['target']['pid']} --nofile={effect.facts['soft']}:"


def _target(effect: Effect) -> proc.Identity:
    return msgspec.convert(effect.facts["target"], proc.Identity)


def _lowest_free(pid: int) -> int:
    taken, at = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}, 0
    while at in taken:
        at += 1
    return at


def _soft_limit(one: proc.Identity) -> int:
    """The soft limit of open files as /proc has it; -1 when the process is gone."""
    try:
        rows = Path(f"/proc/{one.pid}/limits").read_text(encoding="ascii").splitlines()
    except OSError:
        return -1
    text = next(row for row in rows if row.startswith("Max open files")).split()[3]
    return int(text) if text.isdecimal() else -1
