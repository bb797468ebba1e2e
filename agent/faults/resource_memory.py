"""`resource.memory`: memory is used up, on the node or in a target's control group."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from agent.faults import target
from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.faults.held import HeldFault, holder_of
from agent.system import cgroup
from protos.error import Problem, SpecError

_MB = 1_000_000
_NOISE = 0.01  # of the node's memory comes and goes within a moment by others' doing
_SHARE_MIN = 0.7  # of what was written, that must be missing elsewhere: others free and take meanwhile


class MemorySpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    size_mb: Annotated[float, Meta(ge=0, description="memory to use up, megabytes; 0: by fraction")] = 0.0
    fraction: Annotated[float, Meta(gt=0, le=1, description="of what is available, where no size is given")] = 0.5
    leave_mb: Annotated[float, Meta(ge=0, description="left available in any case, megabytes")] = 256.0
    cgroup_of: Annotated[
        target.ProcessSpec | None, Meta(description="the process in whose control group it counts; null: the node")
    ] = None
    killed_first: Annotated[bool, Meta(description="whether the kernel kills the holder first, not the target")] = True


class ResourceMemory(HeldFault):
    """Confirmed by the holder's resident set and by what the node, or the group, has less."""

    kind: ClassVar[str] = "resource.memory"
    spec: ClassVar[type[msgspec.Struct]] = MemorySpec
    undo: ClassVar[Undo] = Undo.KERNEL
    grip: ClassVar[str] = "memory"
    page: ClassVar[Page] = Page(
        does="Memory of the node, or of a target's control group, is used up.",
        mechanism="A holder maps anonymous pages and has the kernel back every one of them. With `cgroup_of` it joins "
        "the target's memory group first, so that the pages count there.",
        proof="The holder's resident set in /proc, and MemAvailable (or the group's usage) that changed by as "
        "much, give or take a hundredth of the node's memory that others take and free meanwhile.",
        ends="The pages belong to the holder, which dies with the agent: the kernel frees them.",
        limits="With `killed_first` the kernel's out-of-memory killer takes the holder before the target, and the "
        "fault "
        "then ends early, which the receipt of the end says. Swap is not touched.",
        example={"fraction": 0.8, "leave_mb": 512},
        source="madvise(2), proc(5) on oom_score_adj",
    )

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, int] = {}

    def missing(self) -> str:
        return ""

    def plan(self, spec: MemorySpec) -> list[Effect]:
        group, where = None, "the node"
        if spec.cgroup_of is not None:
            root = target.resolve(spec.cgroup_of)[0]
            group = cgroup.find(root.pid, "memory")
            if group is None:
                raise SpecError(Problem("spec.cgroup_of", f"{root.name} (pid {root.pid}) is in no memory group"))
            where = f"the memory group of {root.name} (pid {root.pid})"
        free = _free(group)
        size = int(spec.size_mb * _MB) if spec.size_mb else int(free * spec.fraction)
        size = min(size, free - int(spec.leave_mb * _MB))
        if size <= 0:
            remedy = "ask for less, or lower leave_mb"
            raise SpecError(
                Problem("spec", f"{free / _MB:.0f} MB are available, {spec.leave_mb:g} are to be left", remedy)
            )
        path = str(group.path) if group else ""
        return [
            Effect(
                fault=self.kind,
                resource=f"memory:{path or 'node'}",
                description=f"{size / _MB:.0f} MB of memory used up on {where}",
                undo=self.undo,
                facts={
                    "bytes": size, "group": path, "version": group.version if group else 0,
                    "procs": str(group.procs) if group else "", "killed_first": spec.killed_first,
                },
            )
        ]  # fmt: skip

    async def inject(self, effect: Effect) -> Injected:
        self._before[effect.id] = _free(_group(effect), limited=False)
        return await super().inject(effect)

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        asked = effect.facts["bytes"]
        taken = self._before.pop(effect.id) - _free(_group(effect), limited=False)
        holder = holder_of(effect)
        resident = _resident(holder.pid) if holder else 0
        noise = 0 if effect.facts["group"] else int(_NOISE * _meminfo("MemTotal"))
        confirmed = resident >= 0.95 * asked and taken + noise >= _SHARE_MIN * asked
        where = "in its group" if effect.facts["group"] else "on the node"
        text = f"{resident / _MB:.0f} of {asked / _MB:.0f} MB resident in the holder; {taken / _MB:.0f} MB less {where}"
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)


def _group(effect: Effect) -> cgroup.Group | None:
    facts: dict[str, Any] = effect.facts
    return cgroup.Group(Path(facts["group"]), facts["version"]) if facts["group"] else None


def _free(group: cgroup.Group | None, *, limited: bool = True) -> int:
    """Bytes available on the node, or up to the group's limit; *limited* False: the negated usage of the group."""
    available = _meminfo("MemAvailable")
    if group is None:
        return available
    used = group.number("memory.current", "memory.usage_in_bytes") or 0
    if not limited:
        return -used
    limit = group.number("memory.max", "memory.limit_in_bytes")
    return available if limit is None else min(available, limit - used)


def _meminfo(name: str) -> int:
    """A row of /proc/meminfo, bytes."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next((int(row.split()[1]) * 1024 for row in file if row.startswith(f"{name}:")), 0)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096
    except (OSError, IndexError):
        return 0
