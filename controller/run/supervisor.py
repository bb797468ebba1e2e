"""The child process of one run: started by exec, heard, ended.

Invariant: when `supervise` returns, the child and all of its process group are gone and its key is deleted. Nothing
that the child says is believed beyond the engine's journal: effects are ended by the controller in every case.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections import deque
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import controller
from controller.run.process import Child
from controller.run.variable import typed
from protos.credential import write_credential

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from controller.pki import Authority
    from controller.run.active import ActiveRun

Json = dict[str, Any]
GRACE_S: Final = 5.0  # from SIGTERM to SIGKILL
KEPT_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
ABORTED: Final = frozenset({"interrupted", "aborted"})


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How the child ended, as outcome and one sentence, with the engine's journal if it left one."""

    outcome: str
    reason: str
    journal: Json | None


@dataclass(frozen=True, slots=True)
class Nursery:
    """What every child needs: where runs live, who certifies, where the controller answers, how long it may take."""

    directory: Path
    authority: Authority
    address: str
    run_s_max: float
    environment: tuple[str, ...] = ()  # patterns of further variables that children may see


async def supervise(
    nursery: Nursery, run: ActiveRun, modules: list[str], tell: Callable[[str, str], Awaitable[None]]
) -> ChildEnd:
    """Runs the experiment of *run* in a child until it ends, `run.stop` is set, or the cap is reached.

    Args:
        nursery: see there.
        run: whose record holds the experiment.
        modules: that the experiment may name; the child refuses others once more.
        tell: takes the child's progress: kind and message of a run event.
    """
    directory = nursery.directory / run.id
    try:
        _prepare(nursery, run, modules, directory)
        command = [sys.executable, "-m", "controller.run.child", str(directory)]
        child = Child.start(command, directory, _environment(nursery, run, directory))
        said: deque[str] = deque(maxlen=5)
        readers = [
            asyncio.create_task(_progress(await child.stdout(), tell)),
            asyncio.create_task(_last_lines(await child.stderr(), said)),
        ]
        try:
            hung = await _wait(child, run, nursery.run_s_max)
        finally:
            await child.end(GRACE_S)
            await asyncio.wait(readers, timeout=GRACE_S)
            for reader in readers:
                reader.cancel()
        journal = _journal(directory / "journal.json")
        return _told(child.returncode or 0, journal, list(said), nursery.run_s_max if hung else 0.0)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _prepare(nursery: Nursery, run: ActiveRun, modules: list[str], directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True)
    cert_pem, key_pem = nursery.authority.issue(run.id, "runner", valid_s=nursery.run_s_max + 600)
    assert key_pem is not None
    write_credential(directory / "certs", cert_pem, key_pem, nursery.authority.ca_pem)
    order = {
        "experiment": run.record.experiment,
        "variables": typed(run.record.experiment, run.record.variables),
        "modules": modules,
    }
    (directory / "order.json").write_text(json.dumps(order))


def _environment(nursery: Nursery, run: ActiveRun, directory: Path) -> dict[str, str]:
    """A short list: what the controller's own environment holds is none of the experiment's business."""
    patterns = (*KEPT_ENVIRONMENT, *nursery.environment)
    kept = {name: value for name, value in os.environ.items() if any(fnmatchcase(name, p) for p in patterns)}
    home = str(Path(controller.__file__).parent.parent)
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (kept.get("PYTHONPATH", ""), home)))
    return kept | {
        "BLACKSTART_CONTROLLER": nursery.address, "BLACKSTART_CERTS": str(directory / "certs"),
        "BLACKSTART_RUN": run.id, "BLACKSTART_PARENT": str(os.getpid()), "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


async def _wait(child: Child, run: ActiveRun, run_s_max: float) -> bool:
    """Returns when the child is gone or has to go; True when it is over its time."""
    gone, stop = asyncio.create_task(child.wait()), asyncio.create_task(run.stop.wait())
    done, pending = await asyncio.wait({gone, stop}, timeout=run_s_max, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return not done


async def _progress(stream: asyncio.StreamReader, tell: Callable[[str, str], Awaitable[None]]) -> None:
    """The child writes one JSON object a line: `{"kind": ..., "message": ...}`."""
    async for line in stream:
        try:
            row = json.loads(line)
            kind, message = str(row["kind"]), str(row["message"])
        except (ValueError, TypeError, KeyError):
            kind, message = "step.output", line.decode(errors="replace").strip()[:500]
        if message:
            await tell(kind, message)


async def _last_lines(stream: asyncio.StreamReader, said: deque[str]) -> None:
    async for line in stream:
        if text := line.decode(errors="replace").strip():
            said.append(text[:500])


def _journal(path: Path) -> Json | None:
    try:
        journal = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return journal if isinstance(journal, dict) else None


def _told(code: int, journal: Json | None, said: list[str], over_s: float) -> ChildEnd:
    last = f"; it said: {said[-1]}" if said else ""
    if over_s:
        return ChildEnd("failed", f"the runner was not done after {over_s:g} s and was ended", journal)
    if code < 0:
        return ChildEnd("lost", f"the runner died of {signal.Signals(-code).name}{last}", journal)
    if journal is None or journal.get("blackstart_error"):
        error = (journal or {}).get("blackstart_error")
        return ChildEnd("failed", f"the engine broke: {error}" if error else f"no journal (exit {code}){last}", journal)
    if journal.get("status") in ABORTED:
        return ChildEnd("aborted", f"the engine was {journal['status']}{last}", journal)
    return ChildEnd("completed", "the experiment ran to its end", journal)
