"""An agent's effects without its link, stopping at a gate before and after every step so that it can be killed there.

`python -m tests.chaos.victim STATE KIND SPEC_JSON DURATION_S GATED`. Writes one line a gate;
with GATED=1 waits for a line of input at each.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from agent import effect, log, undo
from agent.guardian import Guardian
from agent.journal import Journal
from agent.policy import Policy

STEPS = (
    "prepare", "prepared", "intent", "intended", "arm", "armed", "inject", "in_force", "injected", "noted",
    "observe", "observed", "revert", "ended",
)  # fmt: skip


def gate(name: str, **facts: Any) -> None:
    print(json.dumps({"gate": name, **facts}), flush=True)
    if sys.argv[5] == "1" and not sys.stdin.readline():
        raise SystemExit(0)


def gated(effects: effect.Effects, guardian: Guardian) -> None:
    """Wraps every step of the contract between two gates."""
    fault = effects.faults[sys.argv[2]]
    prepare, inject, observe, revert = fault.prepare, fault.inject, fault.observe, fault.revert
    arm, record = guardian.arm, undo.record

    def prepare_(planned: Any) -> None:
        gate("prepare")
        prepare(planned)
        gate("prepared")

    async def inject_(planned: Any) -> Any:
        gate("inject")
        result = await inject(planned)
        gate("in_force")
        return result

    async def observe_(planned: Any, injected: Any) -> Any:
        gate("observe")
        result = await observe(planned, injected)
        gate("observed")
        return result

    async def revert_(planned: Any) -> None:
        gate("revert")
        await revert(planned)

    async def arm_() -> None:
        gate("arm")
        await arm()
        gate("armed", guardian=guardian.pid)

    def record_(journal: Journal, step: Any, planned: Any, by: str, note: str = "") -> None:
        names = {"intent": ("intent", "intended"), "injected": ("injected", "noted")}
        before, after = names.get(step, ("", "ended"))
        if before:
            gate(before)
        record(journal, step, planned, by, note)
        gate(after, deadline_ns=planned.deadline_ns, undo=str(planned.undo))

    fault.prepare, fault.inject, fault.observe, fault.revert = prepare_, inject_, observe_, revert_  # type: ignore[method-assign]
    guardian.arm = arm_  # type: ignore[method-assign]
    undo.record = record_


async def main() -> None:
    state, kind, spec, duration_s = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4])
    log.configure("error", "victim")  # to standard error: standard output is for the gates
    guardian = Guardian(state)
    guardian.start()
    done = asyncio.Event()
    policy = Policy(faults=["*"], protected_processes=[], kubelets=[spec.get("program", "kubelet")])
    effects = effect.Effects(
        journal=Journal(state), guardian=guardian, policy=lambda: policy,
        controller=list, notify=lambda *_: done.set(),
    )  # fmt: skip
    gated(effects, guardian)
    rows = await effects.inject(
        run_id="run", injection="first", kind=kind, spec=spec, duration_s=duration_s, on_lost="revert"
    )
    print(json.dumps({"effects": rows}), flush=True)
    if rows[0]["undo"] != "self_healing":
        await done.wait()
    guardian.stop()


if __name__ == "__main__":
    asyncio.run(main())
