"""What the tests of `file.*` share: a directory of their own, and the eyes for what is left."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from agent.faults import registry
from agent.faults.base import Effect
from agent.system import proc


def servers() -> list[int]:
    mark = f"BLACKSTART_TEST={os.getpid()}"
    found = [pid for pid in proc.pids() if "agent.faults.file_server" in proc.command_line(pid)]
    return [pid for pid in found if mark in environment(pid)]


def environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def planned(kind: str, path: Path, *operations: str, duration_s: float = 30.0, **spec: Any) -> tuple[Any, Effect]:
    faults = registry.all_faults()
    (effect,) = registry.plan(faults, kind, {"path": str(path), "operations": list(operations), **spec})
    effect.boot_id, effect.deadline_ns = proc.boot_id(), time.monotonic_ns() + int(duration_s * 1e9)
    return faults[kind], effect


async def put_in_force(fault: Any, effect: Effect) -> Any:
    fault.prepare(effect)
    receipt = await fault.observe(effect, await fault.inject(effect))
    assert receipt.confirmed, receipt.text
    return receipt
