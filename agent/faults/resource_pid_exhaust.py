"""`resource.pid_exhaust`: no process or thread can be started any more, in a target's control group or on the node."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults import target
from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.faults.held import HeldFault, holder_of
from agent.system import cgroup
from protos.error import Problem, SpecError

_MOST: Final = 30_000  # threads of one holder
_FORK: Final = """
import os, sys
with open(sys.argv[1], "w") as procs: procs.write(str(os.getpid()))
try:
    child = os.fork()
except OSError as error:
    print(error.errno)
else:
    if not child: os._exit(0)
    os.waitpid(child, 0)
    print(0)
"""


class PidExhaustSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    cgroup_of: Annotated[
        target.ProcessSpec | None, Meta(description="the process whose pids group runs out; null: the node")
    ] = None
    tasks: Annotated[int, Meta(ge=0, le=_MOST, description="tasks to take; 0: all but what is left")] = 0
    leave: Annotated[int, Meta(ge=0, description="tasks left, where no number is given")] = 0


class ResourcePidExhaust(HeldFault):
    """Confirmed by the group's own count and by a fork that fails in it."""

    kind: ClassVar[str] = "resource.pid_exhaust"
    spec: ClassVar[type[msgspec.Struct]] = PidExhaustSpec
    undo: ClassVar[Undo] = Undo.KERNEL
    grip: ClassVar[str] = "tasks"
    page: ClassVar[Page] = Page(
        does="No process or thread can be started any more in a target's control group, or on the node.",
        mechanism="A holder joins the target's pids group and starts threads that wait, each of which takes a pid.",
        proof="The holder's threads in /proc, the group's pids.current, and, with nothing left, a fork in the group "
        "that "
        "fails with EAGAIN.",
        ends="The threads end with the holder, and the holder with the agent.",
        limits="At most 30,000 tasks. Of the node as a whole at least 500 are left, or nobody could log in. A group "
        "without a limit (pids.max is max) needs a number in `tasks`.",
        example={"cgroup_of": {"pid_file": "/run/segmenter.pid"}},
        source="cgroups(7) on pids.max",
    )

    def missing(self) -> str:
        return ""

    def plan(self, spec: PidExhaustSpec) -> list[Effect]:
        group, where, leave = None, "the node", spec.leave
        if spec.cgroup_of is None:
            room, leave = _room_of_node(), max(spec.leave, 500)
        else:
            root = target.resolve(spec.cgroup_of)[0]
            where = f"the pids group of {root.name} (pid {root.pid})"
            group = cgroup.find(root.pid, "pids")
            if group is None:
                raise SpecError(Problem("spec.cgroup_of", f"{root.name} (pid {root.pid}) is in no pids group"))
            limit = group.number("pids.max")
            if limit is None and not spec.tasks:
                raise SpecError(Problem("spec.tasks", f"{where} has no limit", "say how many to take"))
            room = _MOST if limit is None else limit - (group.number("pids.current") or 0)
        count = min(spec.tasks or room - leave, room - leave, _MOST)
        if count <= 1:
            raise SpecError(Problem("spec.leave", f"{room} tasks are left in {where}", "leave fewer"))
        return [
            Effect(
                fault=self.kind,
                resource=f"tasks:{group.path if group else 'node'}",
                description=f"{count} tasks of {where} taken",
                undo=self.undo,
                facts={
                    "count": count,
                    "group": str(group.path) if group else "", "procs": str(group.procs) if group else "",
                    "version": group.version if group else 0, "all": group is not None and not spec.tasks and not leave,
                },
            )
        ]  # fmt: skip

    async def inject(self, effect: Effect) -> Injected:
        report = await self._engage(effect)
        effect.facts["started"] = report["started"]
        return Injected(report["lo_ns"], report["hi_ns"])

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts, holder = effect.facts, holder_of(effect)
        threads = _threads(holder.pid) if holder else 0
        confirmed = threads >= 0.9 * facts["count"]
        text = f"{threads} tasks in the holder"
        if facts["group"]:
            group = cgroup.Group(Path(facts["group"]), facts["version"])
            text += f", {group.read('pids.current')} of {group.read('pids.max')} in the group"
        if facts["all"]:
            failed = await asyncio.to_thread(_fork_fails, facts)
            confirmed = confirmed and failed
            text += "; a fork fails there (EAGAIN)" if failed else "; but a fork still succeeds there"
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)


def _threads(pid: int) -> int:
    try:
        rows = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return int(next(row for row in rows if row.startswith("Threads:")).split()[1])


def _fork_fails(facts: dict[str, Any]) -> bool:
    command = [sys.executable, "-I", "-S", "-c", _FORK, facts["procs"]]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return ran.stdout.strip() == "11"


def _room_of_node() -> int:
    limit = min(
        int(Path(f"/proc/sys/kernel/{name}").read_text(encoding="ascii")) for name in ("pid_max", "threads-max")
    )
    running = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[2])
    return limit - running
