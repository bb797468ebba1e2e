"""Whoever dies, an effect in the cluster ends in time: SIGKILLs of self-chaos, and an agent that loses its controller.

The figures are printed (`pytest -s`).
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from agent.effect import Effects
from agent.guardian import Guardian
from agent.journal import Journal
from agent.policy import Policy
from tests.chaos import case as cases
from tests.chaos.campaign import attempt, trials

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600), pytest.mark.usefixtures("faulted")]
SEED = int(os.environ.get("BLACKSTART_CHAOS_SEED", "7"))
KILLS = int(os.environ.get("BLACKSTART_CHAOS_KUBE", "4"))
BOUND_S = 1.0  # an API call more than on the node itself
UNDONE = ("node.drain", "node.taint", "deployment.scale")


@pytest.mark.chaos
@pytest.mark.parametrize("kind", UNDONE)
def test_it_ends_in_time_whoever_is_killed(kind: str) -> None:
    outcomes = [attempt(trial) for trial in trials(KILLS, SEED, kind)]
    late = [one.late_s for one in outcomes if one.late_s is not None]
    print(f"\n{kind}: {len(outcomes)} kills, worst {max(late, default=0):+.2f} s against the deadline, "
          f"undone {max(one.undo_s for one in outcomes):.2f} s after the kill at the latest")  # fmt: skip
    assert len(outcomes) == KILLS
    bad = [f"{one.trial}: late {one.late_s}, {one.residue}" for one in outcomes
           if one.residue or (one.late_s or 0) > BOUND_S]  # fmt: skip
    assert not bad, f"seed {SEED}:\n" + "\n".join(bad)


def _undone_ns(made: cases.Case) -> int:
    """The instant at which it is seen no more."""
    cases.wait_until(lambda: not made.in_force(), 12.0)
    return time.monotonic_ns()


@pytest.mark.parametrize("kind", UNDONE)
async def test_it_ends_when_the_controller_is_lost(kind: str, tmp_path: Path) -> None:
    """What asked for that ends at once; what asked to be held ends at its deadline, without any controller."""
    guardian = Guardian(tmp_path)
    effects = Effects(
        journal=Journal(tmp_path), guardian=guardian, policy=lambda: Policy(faults=["*"]), controller=list,
        notify=lambda *_: None,
    )  # fmt: skip
    try:
        for on_lost, duration_s in (("revert", 60.0), ("hold", 6.0)):
            with cases.case(kind) as made:
                before = made.fingerprint()
                (row,) = await effects.inject(
                    run_id="r", injection=on_lost, kind=kind, spec=made.spec, duration_s=duration_s, on_lost=on_lost
                )  # type: ignore[arg-type]
                assert row["confirmed"], row["receipt"]
                (active,) = effects.of(injection=on_lost)
                due_ns = time.monotonic_ns() if on_lost == "revert" else active.effect.deadline_ns
                seen = asyncio.get_running_loop().run_in_executor(None, _undone_ns, made)
                await effects.lose_controller()
                late_s = (await seen - due_ns) / 1e9
                print(f"\n{kind}, {on_lost}: undone {late_s:+.2f} s after it was due")
                assert late_s <= BOUND_S
                await effects.revert(effects.of())
                assert made.fingerprint() == before
    finally:
        await effects.close()
        guardian.stop()
