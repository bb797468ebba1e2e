"""`gpu.xid_log`: one line in the kernel's log that looks like a GPU error. The symptom only."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults.base import Effect, Injected, Page, Receipt
from agent.faults.once import OnceFault
from protos.error import FaultError

_LOG: Final = Path("/dev/kmsg")


class XidLogSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    xid: Annotated[int, Meta(ge=1, le=999, description="number of the error: 79 is a GPU that fell off the bus")] = 79
    pci: Annotated[str, Meta(pattern=r"^[0-9a-fA-F:.]{1,16}\Z", description="PCI address in the line")] = "0000:00:00"


class GpuXidLog(OnceFault):
    """Confirmed by a reader of the kernel's log."""

    kind: ClassVar[str] = "gpu.xid_log"
    spec: ClassVar[type[msgspec.Struct]] = XidLogSpec
    page: ClassVar[Page] = Page(
        does="One line in the shape of a GPU error (Xid) stands in the kernel's log: whoever watches it should react.",
        mechanism="A write to /dev/kmsg. The line says that it is Blackstart's.",
        proof="The line is read back from /dev/kmsg.",
        ends="There is nothing to undo: a log line stays.",
        limits="The symptom only: no GPU is touched, and none has to be there. It tests detection, not recovery.",
        example={"xid": 79},
        source="NVIDIA, Xid errors; dev-kmsg",
    )

    def missing(self) -> str:
        return "" if os.access(_LOG, os.R_OK | os.W_OK) else f"the right to read and write {_LOG} (root)"

    def plan(self, spec: XidLogSpec) -> list[Effect]:
        effect = Effect(
            fault=self.kind,
            resource="kernel log",
            description=f"a log line of Xid {spec.xid} (symptom only)",
            undo=self.undo,
            facts={},
        )
        effect.facts["line"] = (
            f"NVRM: Xid (PCI:{spec.pci}): {spec.xid}, written by Blackstart {effect.id}, symptom only"
        )
        return [effect]

    async def inject(self, effect: Effect) -> Injected:
        lo_ns = time.monotonic_ns()
        try:
            with _LOG.open("w", encoding="ascii") as log:
                log.write(f"<3>{effect.facts['line']}\n")
        except OSError as error:
            raise FaultError(f"{_LOG}: {error.strerror}") from error
        return Injected(lo_ns, time.monotonic_ns())

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        confirmed = effect.facts["line"] in _read()
        text = (
            "the line stands in the kernel's log (symptom only)" if confirmed else "the line is not in the kernel's log"
        )
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)


def _read() -> str:
    """All that the kernel's log holds now."""
    descriptor, rows = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), []
    try:
        while True:
            try:
                rows.append(os.read(descriptor, 8192).decode(errors="replace"))
            except BrokenPipeError:
                continue  # what was read next has been overwritten: go on with what is there
            except BlockingIOError:
                return "".join(rows)
    finally:
        os.close(descriptor)
