"""`file.io_error`: operations on the files of a directory fail."""

from __future__ import annotations

import errno
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults import file_fault
from agent.faults.base import Effect, Injected, Page, Receipt

_TIMEOUT_S = 5.0


class IoErrorSpec(file_fault.FileSpec, kw_only=True, forbid_unknown_fields=True):
    errno: Annotated[
        Literal[
            "EIO", "ENOSPC", "EROFS", "EDQUOT", "EACCES", "EPERM", "EBUSY", "EMFILE", "ENFILE", "ENOMEM", "ESTALE",
            "ETIMEDOUT",
        ],
        Meta(description="the error"),
    ] = "EIO"  # fmt: skip


class FileIoError(file_fault.FileFault):
    """Another process tries the very operations and gets the very error."""

    kind: ClassVar[str] = "file.io_error"
    spec: ClassVar[type[msgspec.Struct]] = IoErrorSpec
    page: ClassVar[Page] = Page(
        does="Operations on the files of a directory fail with an error: a dying disk, a full one, a read-only one.",
        mechanism="A FUSE file system of our own is mounted over the directory and hands everything on to it, save "
        "what is to fail. Needs /dev/fuse and CAP_SYS_ADMIN, and no library.",
        proof="Another process, in the target's mount namespace, tries each operation in a scratch directory of the "
        "mount and gets that error. The scratch is in memory: nothing is left in the directory.",
        ends="The server detaches the mount at the deadline or when its holder dies, the holder when the server dies; "
        "behind both stand the guardian and the journal. Only if all are killed at once does the mount stay, and "
        "answers ENOTCONN, until the agent starts again.",
        limits=file_fault.LIMITS,
        example={"path": "/var/lib/postgresql", "operations": ["fsync"], "errno": "EIO", "fraction": 0.1},
        source="fuse(4), Documentation/filesystems/fuse; mount_namespaces(7)",
    )

    def plan(self, spec: IoErrorSpec) -> list[Effect]:
        return [self.effect(spec, spec.errno, errno=spec.errno)]

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts = effect.facts
        wanted = getattr(errno, facts["errno"])
        seen = await self.trial(effect, 1e9, _TIMEOUT_S)
        rows = {operation: [int(number) for number, _ in attempts] for operation, attempts in seen.items()}
        hit = [operation for operation, numbers in rows.items() if wanted in numbers]
        wrong = sorted(
            {errno.errorcode.get(n, str(n)) for numbers in rows.values() for n in numbers} - {"0", facts["errno"]}
        )
        untried = [operation for operation in facts["operations"] if not rows.get(operation)]
        missed = [operation for operation in facts["operations"] if operation not in hit and operation not in untried]
        explained = not untried or not {"open", "open_write"}.isdisjoint(hit)  # no file could be had to try them on
        confirmed = bool(hit) and not missed and not wrong and explained
        tried = sum(map(len, rows.values()))
        text = f"another process got {facts['errno']} from {', '.join(sorted(hit)) or 'nothing'} in {tried} attempts"
        for words, which in (("no error from", missed), ("could not try", untried), ("other errors:", wrong)):
            text += f"; {words} {', '.join(which)}" if which else ""
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)
