"""`resource.disk_fill`: a file system runs full, or nearly so."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.held import HeldFault
from agent.system import mount
from protos.error import Problem, SpecError

_MB = 1_000_000


class DiskFillSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    path: Annotated[str, Meta(min_length=1, description="a directory on the file system")]
    size_mb: Annotated[float, Meta(ge=0, description="space to take, megabytes; 0: all but what is left")] = 0.0
    leave_mb: Annotated[
        float, Meta(ge=0, description="space left free, megabytes; 0: until nothing can be written")
    ] = 64.0


class ResourceDiskFill(HeldFault):
    """Confirmed by the file system's own count of free blocks, and by a write that fails where all is taken."""

    kind: ClassVar[str] = "resource.disk_fill"
    spec: ClassVar[type[msgspec.Struct]] = DiskFillSpec
    undo: ClassVar[Undo] = Undo.KERNEL
    grip: ClassVar[str] = "fill"
    page: ClassVar[Page] = Page(
        does="The file system of a directory runs full, or down to what is to be left.",
        mechanism="A file without a name (O_TMPFILE), grown by fallocate(2) and held open.",
        proof="statvfs(3) shows the space gone; with `leave_mb: 0` a write of another file fails with ENOSPC.",
        ends="The file has no name: the kernel frees it with its holder, which dies with the agent.",
        limits="Takes what root may take, the reserved blocks too, when the agent is root. A tmpfs counts against "
        "memory. "
        "The agent's own journal may be on that file system: protect it by `protected_mounts`.",
        example={"path": "/var/lib/segments", "leave_mb": 0},
        source="open(2) on O_TMPFILE, fallocate(2)",
    )

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, int] = {}

    def missing(self) -> str:
        return ""

    def plan(self, spec: DiskFillSpec) -> list[Effect]:
        point, room = described(spec.path)
        size = min(int(spec.size_mb * _MB) or room.free, room.free) if spec.size_mb else room.free
        size = min(size, room.free - int(spec.leave_mb * _MB))
        if size <= 0:
            raise SpecError(
                Problem("spec.leave_mb", f"only {room.free / _MB:.0f} MB are free on {point}", "leave less")
            )
        everything = not spec.size_mb and not spec.leave_mb
        return [
            Effect(
                fault=self.kind,
                resource=f"space:{point}",
                description=f"{'all' if everything else f'{size / _MB:.0f} MB'} of the free space on {point} taken",
                undo=self.undo,
                touches=Touched(mounts=[point]),
                facts={"path": os.path.realpath(spec.path), "bytes": size, "all": everything},
            )
        ]

    async def inject(self, effect: Effect) -> Injected:
        self._before[effect.id] = mount.space(effect.facts["path"]).free
        report = await self._engage(effect)
        effect.facts["taken"] = report["bytes"]
        return Injected(report["lo_ns"], report["hi_ns"])

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts, before = effect.facts, self._before.pop(effect.id)
        free = mount.space(facts["path"]).free
        confirmed = before - free >= 0.9 * facts["taken"] > 0
        text = f"{(before - free) / _MB:.1f} MB less free than before, {free / _MB:.1f} MB left"
        if facts["all"]:
            failed = _write_fails(facts["path"])
            confirmed = confirmed and failed
            text += "; a write fails with ENOSPC" if failed else "; but a write still succeeds"
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)


def described(path: str) -> tuple[str, mount.Space]:
    """Mount point and space of an existing directory; SpecError if it is none."""
    if not Path(path).is_dir():
        raise SpecError(Problem("spec.path", f"{path} is not a directory on this node"))
    return mount.point_of(path)[0], mount.space(path)


def _write_fails(path: str) -> bool:
    try:
        descriptor = mount.unlinked(path)
        try:
            os.write(descriptor, bytes(1 << 20))
            os.write(descriptor, bytes(1 << 20))  # the first may have been cut short by what was left
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno == errno.ENOSPC
    return False
