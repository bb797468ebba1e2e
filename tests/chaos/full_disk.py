"""An agent whose journal's disk is full, before an injection or while it is in force; writes what happened as JSON.

`python -m tests.chaos.full_disk DIRECTORY WHEN`; DIRECTORY is a small file system of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from agent import log
from agent.effect import Effects
from agent.guardian import Guardian
from agent.journal import Journal
from agent.leftover import close_leftovers
from agent.policy import Policy
from agent.system import proc
from protos.error import BlackstartError
from tests.chaos.subject.process import members, target


def fill(folder: Path) -> Path:
    """Takes the last byte of the disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


async def main() -> None:
    folder, when = Path(sys.argv[1]), sys.argv[2]
    log.configure("critical", "full")
    journal, guardian = Journal(folder), Guardian(folder)
    effects = Effects(
        journal=journal, guardian=guardian, policy=lambda: Policy(faults=["*"], protected_processes=[]),
        controller=list, notify=lambda *_: None,
    )  # fmt: skip
    guardian.start()
    with target() as (process, child):
        refused, ballast = False, fill(folder) if when == "before" else None
        try:
            await effects.inject(
                run_id="run", injection="first", kind="process.pause", spec={"pid": process.pid}, duration_s=30.0,
                on_lost="revert",
            )  # fmt: skip
        except BlackstartError:
            refused = True
        ballast = ballast or fill(folder)
        await effects.close()
        resumed = not [one for one in members(process.pid, child) if proc.is_stopped(one)]
        ballast.unlink()
        await close_leftovers(journal)
        seen = {"refused": refused, "resumed": resumed, "clean": journal.in_force() == []}
    guardian.stop()
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main())
