"""`resource.io_throttle`: a process and its descendants read or write a disk no faster than a given rate."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults import target
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.resource_disk_fill import described
from agent.system import cgroup, mount, proc
from protos.error import FaultError, Problem, SpecError

_WINDOW_S: Final = 0.6
_TOLERANCE: Final = 1.5  # times the rate: the kernel lets a slice of 100 ms through at once
_PROBE: Final = """
import mmap, os, sys, time
procs, path, read, window_s = sys.argv[1], sys.argv[2], sys.argv[3] == "read", float(sys.argv[4])
block = mmap.mmap(-1, 65536)
name = os.path.join(path, ".blackstart-probe-%d" % os.getpid())
fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DIRECT, 0o600)
os.unlink(name)
if read:
    for at in range(64): os.pwrite(fd, block, at * 65536)
if procs:
    with open(procs, "w") as file: file.write(str(os.getpid()))
done, began = 0, time.monotonic()
while time.monotonic() - began < window_s:
    at = (done // 65536 % 64) * 65536
    done += os.preadv(fd, [block], at) if read else os.pwrite(fd, block, at)
print(done / (time.monotonic() - began))
"""


class IoThrottleSpec(target.ProcessSpec, kw_only=True, forbid_unknown_fields=True):
    path: Annotated[str, Meta(min_length=1, description="a directory on the disk")] = "/"
    read_bps: Annotated[int, Meta(ge=0, description="bytes per second read; 0: not limited")] = 0
    write_bps: Annotated[int, Meta(ge=0, description="bytes per second written; 0: not limited")] = 0


class ResourceIoThrottle:
    """Confirmed by the rate that a process of its own reaches in the same group."""

    kind: ClassVar[str] = "resource.io_throttle"
    spec: ClassVar[type[msgspec.Struct]] = IoThrottleSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="A process and its descendants read or write a disk no faster than a given rate.",
        mechanism="A control group of the effect's own below the target's, with blkio.throttle (version 1) or io.max "
        "(version 2); the targets are moved into it.",
        proof="A process of its own reads or writes past the cache (O_DIRECT) in that group and reaches the rate, "
        "and no "
        "more; outside the group it is faster.",
        ends="The agent, the guardian, or the agent's next start moves the processes back to where each was, and "
        "removes the "
        "group.",
        limits="With version 1 buffered writes are not limited, only direct and synchronous ones. A service manager "
        "that "
        "moves its processes meanwhile ends the fault for them. Version 2 is written after its document and not yet "
        "tried.",
        example={"pid_file": "/run/postgresql.pid", "path": "/var/lib/postgresql", "write_bps": 5000000},
        source="cgroups(7); blkio controller, cgroup-v2 io.max",
    )

    def missing(self) -> str:
        group = cgroup.find(1, "blkio") or cgroup.find(1, "io")
        if group is None:
            return "a blkio or io controller for control groups"
        return "" if _may_write(group.path) else f"the right to make groups below {group.path} (root)"

    def plan(self, spec: IoThrottleSpec) -> list[Effect]:
        if not (spec.read_bps or spec.write_bps):
            raise SpecError(Problem("spec", "limits nothing", "set read_bps or write_bps"))
        point, _ = described(spec.path)
        device = mount.device_of(spec.path)
        if not device:
            raise SpecError(Problem("spec.path", f"no block device is behind {point}"))
        effects = []
        for root in target.resolve(spec):
            members = proc.tree(root) if spec.tree else [root]
            group = cgroup.find(root.pid, "blkio") or cgroup.find(root.pid, "io")
            if group is None:
                raise SpecError(Problem("spec", f"{root.name} (pid {root.pid}) is in no blkio or io group"))
            effect = Effect(
                fault=self.kind,
                resource=f"io:{root.pid}:{root.start}",
                description=f"{_words(spec)} on {point} for {target.describe([root], len(members))}",
                undo=self.undo,
                touches=Touched(processes=members, mounts=[point]),
                facts={
                    "device": device, "path": spec.path, "read_bps": spec.read_bps, "write_bps": spec.write_bps,
                    "parent": str(group.path), "version": group.version,
                    "origins": [[msgspec.to_builtins(one), _origin(one)] for one in members],
                },
            )  # fmt: skip
            effect.facts["group"] = str(group.path / f"{cgroup.PREFIX}{effect.id}")
            effects.append(effect)
        return effects

    def prepare(self, effect: Effect) -> None:
        """The group is made at the injection: its name is in the facts."""

    async def inject(self, effect: Effect) -> Injected:
        facts = effect.facts
        effect.facts["free_bps"] = await asyncio.to_thread(_rate, facts, "")
        try:
            group = cgroup.make(Path(facts["parent"]), Path(facts["group"]).name)
            _limit(group, facts)
            lo_ns = time.monotonic_ns()
            moved = 0
            for row, _ in facts["origins"]:
                one = msgspec.convert(row, proc.Identity)
                if proc.alive(one):
                    cgroup.join(str(group / "cgroup.procs"), one.pid)
                    moved += 1
        except OSError as error:
            await self.revert(effect)
            raise FaultError(f"{effect.description}: {error.filename or ''} {error.strerror}") from error
        if not moved:
            await self.revert(effect)
            raise FaultError(f"{effect.description}: the target was gone")
        return Injected(lo_ns, time.monotonic_ns())

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts = effect.facts
        asked = facts["write_bps"] or facts["read_bps"]
        reached = await asyncio.to_thread(_rate, facts, str(Path(facts["group"]) / "cgroup.procs"))
        inside = len(cgroup.pids(Path(facts["group"])))
        confirmed = inside > 0 and 0 < reached <= _TOLERANCE * asked < facts["free_bps"]
        text = (
            f"{reached / 1e6:.2f} MB/s in the group, {facts['free_bps'] / 1e6:.2f} outside, {asked / 1e6:.2f} asked;"
            f" {inside} processes are in it"
        )
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def revert(self, effect: Effect) -> None:
        facts, group = effect.facts, Path(effect.facts["group"])
        origins = {row["pid"]: where for row, where in facts["origins"]}
        for _ in range(50):  # what they fork meanwhile begins in our group, too
            for pid in cgroup.pids(group):
                where = origins.get(pid) or facts["parent"]
                with contextlib.suppress(ProcessLookupError):
                    cgroup.join(f"{where}/cgroup.procs", pid)
            try:
                cgroup.remove(group)
                return
            except OSError:
                await asyncio.sleep(0.01)

    def gone(self, effect: Effect) -> bool:
        return not any(proc.alive(msgspec.convert(row, proc.Identity)) for row, _ in effect.facts["origins"])

    def residue(self, effect: Effect) -> list[str]:
        group = Path(effect.facts["group"])
        return [f"control group {group} still stands ({len(cgroup.pids(group))} processes)"] if group.exists() else []

    def remedy(self, effect: Effect) -> str:
        group, parent = effect.facts["group"], effect.facts["parent"]
        return f"for p in $(cat {group}/cgroup.procs); do echo $p > {parent}/cgroup.procs; done; rmdir {group}"


def _words(spec: IoThrottleSpec) -> str:
    rates = [("reads", spec.read_bps), ("writes", spec.write_bps)]
    return ", ".join(f"{name} at most {bps / 1e6:g} MB/s" for name, bps in rates if bps)


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK)


def _origin(one: proc.Identity) -> str:
    group = cgroup.find(one.pid, "blkio") or cgroup.find(one.pid, "io")
    return str(group.path) if group else ""


def _limit(group: Path, facts: dict[str, Any]) -> None:
    device = facts["device"]
    if facts["version"] == 2:
        rates = {"rbps": facts["read_bps"], "wbps": facts["write_bps"]}
        (group / "io.max").write_text(
            f"{device} " + " ".join(f"{key}={bps}" for key, bps in rates.items() if bps), encoding="ascii"
        )
        return
    for side in ("read", "write"):
        if bps := facts[f"{side}_bps"]:
            (group / f"blkio.throttle.{side}_bps_device").write_text(f"{device} {bps}", encoding="ascii")


def _rate(facts: dict[str, Any], procs: str) -> float:
    """Bytes per second that a process reaches, in the group or (procs "") outside it; 0 when it cannot."""
    side = "write" if facts["write_bps"] else "read"
    command = [sys.executable, "-I", "-S", "-c", _PROBE, procs, facts["path"], side, str(_WINDOW_S if procs else 0.1)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=15)
        return float(ran.stdout)
    except (ValueError, subprocess.TimeoutExpired):
        return 0.0
