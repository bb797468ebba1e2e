"""`file.io_slow`: operations on the files of a directory take longer."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from agent.faults import file_fault
from agent.faults.base import Effect, Injected, Page, Receipt
from protos.error import Problem, SpecError

_SLACK_S = 5.0
_UNTOUCHED_MS = 2.0  # a delay below this cannot be told from a busy node


class IoSlowSpec(file_fault.FileSpec, kw_only=True, forbid_unknown_fields=True):
    delay_ms: Annotated[float, Meta(gt=0, le=60_000, description="added to each operation")]
    jitter_ms: Annotated[float, Meta(ge=0, description="the delay is drawn evenly from delay_ms ± this")] = 0.0


class FileIoSlow(file_fault.FileFault):
    """Another process tries the very operations and has to wait."""

    kind: ClassVar[str] = "file.io_slow"
    spec: ClassVar[type[msgspec.Struct]] = IoSlowSpec
    page: ClassVar[Page] = Page(
        does="Operations on the files of a directory take longer: a disk that is worn out, or a network one far away.",
        mechanism="A FUSE file system of our own is mounted over the directory and hands everything on to it, "
        "some of it later. Any number of operations wait at the same time. Needs /dev/fuse and CAP_SYS_ADMIN, and "
        "no library.",
        proof="Another process, in the target's mount namespace, tries each operation in a scratch directory of the "
        "mount and waits as long as was asked. The scratch is in memory: nothing is left in the directory.",
        ends="The server detaches the mount at the deadline or when its holder dies, the holder when the server dies, "
        "and what was waiting is done at once; behind both stand the guardian and the journal. Only if all are killed "
        "at once does the mount stay, and answers ENOTCONN, until the agent starts again.",
        limits=file_fault.LIMITS
        + " A process that is killed while it waits ends when the wait does. All operations pay "
        "the way through a process, tens of microseconds, hit or not.",
        example={"path": "/var/lib/postgresql", "operations": ["fsync", "write"], "delay_ms": 40.0, "jitter_ms": 10.0},
        source="fuse(4), Documentation/filesystems/fuse; mount_namespaces(7)",
    )

    def plan(self, spec: IoSlowSpec) -> list[Effect]:
        if spec.jitter_ms > spec.delay_ms:
            raise SpecError(Problem("spec.jitter_ms", f"{spec.jitter_ms:g} is more than delay_ms ({spec.delay_ms:g})"))
        jitter = f" ± {spec.jitter_ms:g}" if spec.jitter_ms else ""
        rule = {"delay_s": spec.delay_ms / 1000, "jitter_s": spec.jitter_ms / 1000}
        return [self.effect(spec, f"{spec.delay_ms:g}{jitter} ms more", **rule)]

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts = effect.facts
        least_ms = max(_UNTOUCHED_MS, (facts["delay_s"] - facts["jitter_s"]) * 1000)
        longest_s = facts["delay_s"] + facts["jitter_s"]
        seen = await self.trial(effect, least_ms, 3 * longest_s + _SLACK_S)  # opening may be slow, too
        waited = {operation: max((ms for _, ms in attempts), default=0.0) for operation, attempts in seen.items()}
        hit = {operation: ms for operation, ms in waited.items() if ms >= least_ms}
        missed = [operation for operation in facts["operations"] if operation not in hit]
        failed = [operation for operation, attempts in seen.items() if any(number for number, _ in attempts)]
        words = ", ".join(f"{operation} {ms:.0f} ms" for operation, ms in sorted(hit.items())) or "for nothing"
        text = f"another process waited: {words}; in {sum(map(len, seen.values()))} attempts"
        for what, which in (("not for", missed), ("errors from", failed)):
            text += f"; {what} {', '.join(which)}" if which else ""
        confirmed = bool(hit) and not missed and not failed
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)
