"""Targets that go away and come back, machines that were suspended, reverts that fail."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import tend, undo
from agent.effect import Effects
from agent.faults import registry
from agent.guardian import Guardian
from agent.journal import Journal
from agent.leftover import begin, close_leftovers
from agent.policy import Policy
from agent.system import clock, proc
from protos.error import SpecError
from tests.chaos import case as cases

SLEEPER = "import time\nwhile True: time.sleep(0.01)"


class Rig:
    """An agent's effects, and what they told the controller."""

    def __init__(self, folder: Path) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.guardian, self.journal = Guardian(folder), Journal(folder)
        policy = Policy(faults=["*"], protected_processes=[])
        self.effects = Effects(
            journal=self.journal, guardian=self.guardian, policy=lambda: policy, controller=list,
            notify=lambda kind, _run, body: self.told.append((kind, body)),
        )  # fmt: skip

    async def pause(self, spec: dict[str, Any], *, follow: bool = False, duration_s: float = 20.0) -> list[Any]:
        return await self.effects.inject(
            run_id="run", injection="first", kind="process.pause", spec=spec, duration_s=duration_s, on_lost="revert",
            follow=follow,
        )  # fmt: skip

    async def until(self, kind: str, count: int = 1) -> dict[str, Any]:
        """The body of the last event of *kind*, once there are *count*."""
        async with asyncio.timeout(5):
            while len(found := [body for told, body in self.told if told == kind]) < count:
                await asyncio.sleep(0.02)
        return found[-1]


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(tend, "TEND_S", 0.05)
    made = Rig(tmp_path)
    yield made
    await made.effects.close()
    child = made.guardian._child
    made.guardian.stop()
    if child is not None:
        child.wait(5)
    made.journal.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Any]:
    """Starts a process whose pid stands in a file, as often as it is called."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> proc.Identity:
        process = subprocess.Popen([sys.executable, "-c", SLEEPER])
        started.append(process)
        (tmp_path / "service.pid").write_text(str(process.pid))
        identity = proc.identify(process.pid)
        assert identity is not None
        return identity

    start.last = lambda: started[-1]  # type: ignore[attr-defined]
    yield start
    for process in started:
        process.kill()
        process.wait()


def spec(tmp_path: Path) -> dict[str, Any]:
    return {"pid_file": str(tmp_path / "service.pid"), "mechanism": "ptrace"}


async def test_a_target_that_comes_back_is_joined_and_reverted_with_the_rest(
    rig: Rig, service: Any, tmp_path: Path
) -> None:
    service()
    (first,) = await rig.pause(spec(tmp_path), follow=True)
    service.last().kill()
    gone = await rig.until("effect.target_gone")
    assert gone["note"] == "its target went away by itself"
    again = service()
    joined = await rig.until("effect.joined")
    assert (joined["follows"], joined["injection"], joined["confirmed"]) == (first["id"], "first", True)
    assert proc.is_stopped(again)
    rows = await rig.effects.revert(rig.effects.of(run_id="run"))
    assert [row["state"] for row in rows] == ["reverted", "reverted"]
    assert not proc.is_stopped(again)
    service.last().kill()
    last = service()
    await asyncio.sleep(0.3)
    assert not proc.is_stopped(last), "what comes back after the revert is left alone"


async def test_without_follow_a_target_that_died_is_told_and_not_joined(rig: Rig, service: Any, tmp_path: Path) -> None:
    service()
    await rig.pause(spec(tmp_path))
    service.last().kill()
    await rig.until("effect.target_gone")
    ended = await rig.until("effect.reverted")
    assert ended["confirmed"], "that the target died of something else does not undo the proof"
    again = service()
    await asyncio.sleep(0.3)
    assert not proc.is_stopped(again)
    assert not [kind for kind, _ in rig.told if kind == "effect.joined"]


async def test_a_bare_pid_cannot_be_followed(rig: Rig, service: Any) -> None:
    with pytest.raises(SpecError, match="does not come back"):
        await rig.pause({"pid": service().pid}, follow=True)


async def test_a_suspension_counts_towards_the_deadline(
    rig: Rig, service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = service()
    await rig.pause(spec(tmp_path), duration_s=60.0)
    before_ns = clock.suspended_ns()
    monkeypatch.setattr(clock, "suspended_ns", lambda: before_ns + 61_000_000_000)
    await rig.until("effect.reverted")
    assert not proc.is_stopped(target)


async def test_a_revert_that_fails_is_stranded_told_and_tried_until_it_works(
    rig: Rig, service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "_PAUSE_S", 0.01)
    service()
    await rig.pause(spec(tmp_path))
    fault = rig.effects.faults["process.pause"]
    revert = fault.revert

    async def broken(effect: Any) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(fault, "revert", broken)
    (row,) = await rig.effects.revert(rig.effects.of(run_id="run"))
    assert row["state"] == "stranded"
    assert row["residue"] == ["ValueError: planted"]
    assert "kill -KILL" in row["remedy"]
    monkeypatch.setattr(fault, "revert", revert)
    ended = await rig.until("effect.reverted")
    assert (ended["state"], ended["residue"]) == ("reverted", [])
    assert rig.journal.in_force() == []


async def test_a_stranded_effect_whose_end_hangs_holds_up_no_other(
    rig: Rig, service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "_PAUSE_S", 0.01)
    service()
    await rig.pause(spec(tmp_path))
    fault = rig.effects.faults["process.pause"]
    (first,), hangs, revert = rig.effects.of(), asyncio.Event(), fault.revert

    async def broken(effect: Any) -> None:
        if effect.id != first.effect.id:
            return await revert(effect)
        if first.state == "stranded":
            hangs.set()
            await asyncio.sleep(30)
        raise ValueError("planted")

    monkeypatch.setattr(fault, "revert", broken)
    await rig.effects.revert([first])
    async with asyncio.timeout(5):
        await hangs.wait()
    service()
    await rig.pause(spec(tmp_path))
    service.last().kill()
    await rig.until("effect.target_gone")
    await rig.until("effect.reverted")
    monkeypatch.setattr(fault, "revert", revert)


async def test_what_could_not_be_ended_at_the_start_is_tried_until_it_works(
    rig: Rig, service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "_PAUSE_S", 0.01)
    service()
    await rig.pause(spec(tmp_path))
    (effect,) = [active.effect for active in rig.effects.of()]
    again = Effects(
        journal=rig.journal, guardian=rig.guardian, policy=Policy, controller=list,
        notify=lambda kind, _run, body: rig.told.append((kind, body)),
    )  # fmt: skip
    fault = again.faults["process.pause"]
    revert = fault.revert

    async def broken(effect: Any) -> None:
        raise ValueError("planted")

    async def revert_all(*_: Any) -> dict[str, list[str]]:
        return {effect.id: ["planted"]}

    monkeypatch.setattr(undo, "revert_all", revert_all)
    begun = await begin(rig.journal)
    assert [row["state"] for row in begun.rows] == ["stranded"]
    assert [one.id for one in begun.open] == [effect.id]
    monkeypatch.setattr(fault, "revert", broken)
    (row,) = await again.adopt(begun.open)
    assert (row["state"], row["residue"], row["confirmed"]) == ("stranded", ["ValueError: planted"], False)
    assert [one["id"] for one in again.in_force()] == [effect.id]
    monkeypatch.setattr(fault, "revert", revert)
    ended = await rig.until("effect.reverted")
    assert (ended["id"], ended["state"]) == (effect.id, "reverted")
    assert rig.journal.in_force() == []
    await again.close()


async def test_a_reboot_has_ended_what_it_ends_and_the_rest_is_reverted(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    recorder = Recorder()
    with cases.case("process.pause") as made:
        for survives in (False, True):
            (effect,) = registry.plan(registry.all_faults(), made.kind, made.spec)
            effect.boot_id, effect.deadline_ns = "another boot", time.monotonic_ns() + 10**10
            effect.survives_reboot, effect.id = survives, f"survives-{survives}"
            undo.record(journal, "intent", effect, "test")
        left = await undo.revert_all(journal, {"process.pause": recorder}, journal.in_force(), "start")
    assert recorder.reverted == ["survives-True"]
    assert left == {"survives-False": [], "survives-True": []}
    assert journal.in_force() == []
    assert await close_leftovers(journal) == []
    journal.close()


class Recorder:
    """A fault that only says what it was asked to revert."""

    def __init__(self) -> None:
        self.reverted: list[str] = []

    async def revert(self, effect: Any) -> None:
        self.reverted.append(effect.id)

    def residue(self, effect: Any) -> list[str]:
        return []
