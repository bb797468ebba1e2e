"""`resource.inode_fill`: a file system runs out of inodes while it still has space."""

from __future__ import annotations

import errno
import os
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.held import HeldFault
from agent.faults.resource_disk_fill import described
from agent.system import mount
from protos.error import Problem, SpecError

_MOST: Final = 1_000_000  # open files of one process: the kernel's own bound (fs.nr_open) is hardly higher


class InodeFillSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    path: Annotated[str, Meta(min_length=1, description="a directory on the file system")]
    leave: Annotated[int, Meta(ge=0, description="inodes left free")] = 0


class ResourceInodeFill(HeldFault):
    """Confirmed by the file system's own count, and by a file that cannot be made."""

    kind: ClassVar[str] = "resource.inode_fill"
    spec: ClassVar[type[msgspec.Struct]] = InodeFillSpec
    undo: ClassVar[Undo] = Undo.KERNEL
    grip: ClassVar[str] = "inodes"
    page: ClassVar[Page] = Page(
        does="The file system of a directory has no inodes left: no file can be made, though there is space.",
        mechanism="Open files without a name (O_TMPFILE), each of which takes an inode.",
        proof="statvfs(3) shows the inodes gone; with `leave: 0` making a file fails with ENOSPC.",
        ends="The files have no names: the kernel frees them with their holder, which dies with the agent.",
        limits="At most a million inodes, the open files of one process. File systems that make inodes as they need "
        "them "
        "(btrfs, XFS in part) are refused.",
        example={"path": "/var/spool/jobs"},
        source="open(2) on O_TMPFILE, statvfs(3)",
    )

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, int] = {}

    def missing(self) -> str:
        return ""

    def plan(self, spec: InodeFillSpec) -> list[Effect]:
        point, room = described(spec.path)
        count = room.inodes_free - spec.leave
        if not room.inodes:
            raise SpecError(Problem("spec.path", f"{point} has no fixed number of inodes"))
        if not 0 < count <= _MOST:
            remedy = f"leave at least {room.inodes_free - _MOST}" if count > 0 else "leave fewer"
            raise SpecError(Problem("spec.leave", f"{room.inodes_free} inodes are free on {point}", remedy))
        return [
            Effect(
                fault=self.kind,
                resource=f"inodes:{point}",
                description=f"{count} inodes of {point} taken, {spec.leave} left",
                undo=self.undo,
                touches=Touched(mounts=[point]),
                # with nothing to be left, a few more are asked for than there were: others may free some meanwhile
                facts={"path": os.path.realpath(spec.path), "count": count + (0 if spec.leave else 64),
                       "leave": spec.leave},
            )
        ]  # fmt: skip

    async def inject(self, effect: Effect) -> Injected:
        self._before[effect.id] = mount.space(effect.facts["path"]).inodes_free
        return await super().inject(effect)

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts, before = effect.facts, self._before.pop(effect.id)
        free = mount.space(facts["path"]).inodes_free
        confirmed = before - free >= 0.9 * (before - facts["leave"]) > 0
        text = f"{before - free} inodes fewer than before, {free} left"
        if not facts["leave"]:
            failed = _making_fails(facts["path"])
            confirmed = confirmed and failed
            text += "; a file cannot be made (ENOSPC)" if failed else "; but a file can still be made"
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)


def _making_fails(path: str) -> bool:
    try:
        os.close(mount.unlinked(path))
    except OSError as error:
        return error.errno == errno.ENOSPC
    return False
