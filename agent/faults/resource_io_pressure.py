"""`resource.io_pressure`: a disk is kept busy by synchronous writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.held import HeldFault, holder_of
from agent.faults.resource_disk_fill import described
from agent.system import mount, proc
from protos.error import Problem, SpecError

_WINDOW_S = 0.5
_SHARE_MIN = 0.5  # of what the workers wrote, that the disk must have written in the same time


class IoPressureSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    path: Annotated[str, Meta(min_length=1, description="a directory on the disk")]
    workers: Annotated[int, Meta(ge=1, le=64, description="processes that write at the same time")] = 4
    block_kb: Annotated[int, Meta(ge=4, le=65536, description="size of one write, kilobytes")] = 256
    size_mb: Annotated[int, Meta(ge=1, le=65536, description="space that each worker writes over, megabytes")] = 64


class ResourceIoPressure(HeldFault):
    """Confirmed by what the workers wrote and what the disk says that it wrote."""

    kind: ClassVar[str] = "resource.io_pressure"
    spec: ClassVar[type[msgspec.Struct]] = IoPressureSpec
    undo: ClassVar[Undo] = Undo.KERNEL
    grip: ClassVar[str] = "io"
    page: ClassVar[Page] = Page(
        does="A disk is kept busy: others wait longer for it.",
        mechanism="Worker processes that write files without a name and sync every write (fdatasync).",
        proof="The workers' write_bytes in /proc, the sectors written in /proc/diskstats, and the time of a sync.",
        ends="The workers die with their holder, the holder with the agent; their files have no names.",
        limits="A load, not a limit: how much slower others get depends on the disk and its scheduler. A write that "
        "the "
        "kernel has begun ends first.",
        example={"path": "/var/lib/postgresql", "workers": 8},
        source="fdatasync(2), proc(5) on /proc/PID/io and /proc/diskstats",
    )

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, float] = {}

    def missing(self) -> str:
        return ""

    def plan(self, spec: IoPressureSpec) -> list[Effect]:
        point, room = described(spec.path)
        device = mount.device_of(spec.path)
        if not device:
            raise SpecError(Problem("spec.path", f"no block device is behind {point}"))
        if room.free < spec.workers * spec.size_mb * 1_000_000 * 1.1:
            raise SpecError(Problem("spec.size_mb", f"{point} has no room for {spec.workers} x {spec.size_mb} MB"))
        return [
            Effect(
                fault=self.kind,
                resource=f"disk:{device}",
                description=f"{spec.workers} workers write and sync {spec.block_kb} kB at a time on {point}",
                undo=self.undo,
                touches=Touched(mounts=[point]),
                facts={
                    "path": os.path.realpath(spec.path), "device": device, "workers": spec.workers,
                    "block": spec.block_kb * 1000, "size": spec.size_mb * 1_000_000,
                },
            )
        ]  # fmt: skip

    async def inject(self, effect: Effect) -> Injected:
        self._before[effect.id] = await asyncio.to_thread(_sync_ms, effect.facts["path"])
        report = await self._engage(effect)
        effect.facts["writers"] = report["workers"]
        return Injected(report["lo_ns"], report["hi_ns"])

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        writers, device = _writers(effect), effect.facts["device"]
        written, sectors = _written(writers), mount.sectors_written(device)
        await asyncio.sleep(_WINDOW_S)
        by_workers = _written(writers) - written
        by_disk = (mount.sectors_written(device) - sectors) * 512
        after_ms = await asyncio.to_thread(_sync_ms, effect.facts["path"])
        text = (
            f"workers wrote {by_workers / 1e6:.1f} MB and the disk {by_disk / 1e6:.1f} MB in {_WINDOW_S * 1000:.0f} ms;"
            f" a sync took {after_ms:.1f} ms ({self._before.pop(effect.id):.1f} ms before)"
        )
        confirmed = by_workers > 0 and by_disk >= _SHARE_MIN * by_workers
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    def _left(self, effect: Effect) -> list[str]:
        return [f"writer (pid {one.pid}) still runs" for one in _writers(effect) if proc.alive(one)]

    def remedy(self, effect: Effect) -> str:
        held = [*_writers(effect), *filter(None, [holder_of(effect)])]
        return f"kill -KILL {' '.join(str(one.pid) for one in held)}"


def _writers(effect: Effect) -> list[proc.Identity]:
    return msgspec.convert(effect.facts.get("writers", []), list[proc.Identity])


def _written(writers: list[proc.Identity]) -> int:
    total = 0
    for one in writers:
        with contextlib.suppress(OSError):
            rows = Path(f"/proc/{one.pid}/io").read_text(encoding="ascii").splitlines()
            total += next(int(row.split()[1]) for row in rows if row.startswith("write_bytes:"))
    return total


def _sync_ms(path: str) -> float:
    """How long one small synchronous write takes, ms."""
    descriptor = mount.unlinked(path)
    try:
        os.write(descriptor, bytes(4096))
        began = time.perf_counter()
        os.fdatasync(descriptor)
        return (time.perf_counter() - began) * 1000
    finally:
        os.close(descriptor)
