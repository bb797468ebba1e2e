"""An API server that hangs holds up nothing but what asked it: the agent's loop, a stop and other effects go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import undo
from agent.effect import Effects
from agent.faults import kube_hold
from agent.faults.base import Effect
from agent.guardian import Guardian
from agent.journal import Journal
from agent.leftover import begin
from agent.policy import Policy
from agent.system import kube
from blackstart.local.cluster.plane import Plane
from protos.error import BlackstartError, RefusedError
from tests.chaos.kube_eye import Eye
from tests.cluster.fault_rig import planned

pytestmark = [pytest.mark.timeout(120)]
Staged = tuple[Eye, str, str]
STILL_S = 0.5  # that a loop may stand still on a busy machine


@pytest.fixture
async def effects(tmp_path: Path, staged: Staged) -> AsyncIterator[Effects]:
    del staged
    guardian, journal = Guardian(tmp_path), Journal(tmp_path)
    policy = Policy(faults=["*"])
    made = Effects(journal=journal, guardian=guardian, policy=lambda: policy, controller=list, notify=lambda *_: None)
    await asyncio.to_thread(kube.SESSION.request, "GET", "/version")
    yield made
    await made.close()
    guardian.stop()
    journal.close()


@contextlib.contextmanager
def hung(plane: Plane) -> Iterator[None]:
    server = plane.members["kube-apiserver"].process
    server.send_signal(signal.SIGSTOP)
    time.sleep(0.05)
    try:
        yield
    finally:
        server.send_signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """For how long the loop stood still at once."""
    still = [0.0]

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            still.append(time.monotonic() - before)

    task = asyncio.create_task(tick())
    await asyncio.sleep(0.05)
    try:
        yield still
        await asyncio.sleep(0.05)
    finally:
        task.cancel()


def cordon(effects: Effects, staged: Staged) -> Any:
    return effects.inject(
        run_id="run", injection="first", kind="node.cordon", spec={"node": staged[2]}, duration_s=60.0, on_lost="revert"
    )


@pytest.mark.parametrize("end", ["stop", "run.end", "controller lost"])
async def test_what_is_ended_while_it_is_planned_is_not_put_in_force(
    end: str, effects: Effects, staged: Staged, plane: Plane
) -> None:
    async with ticking() as still:
        with hung(plane):
            injecting = asyncio.create_task(cordon(effects, staged))
            await asyncio.sleep(1.0)
            began_s = time.monotonic()
            match end:
                case "stop":
                    await effects.stop()
                case "run.end":
                    effects.call_off("run", None)
                case _:
                    await effects.lose_controller()
            assert time.monotonic() - began_s < STILL_S
        with pytest.raises(RefusedError, match=r"came in between|before it took hold|controller was lost"):
            await injecting
    assert max(still) < STILL_S, f"the loop stood still for {max(still):.1f} s"
    assert not staged[0].get(f"/api/v1/nodes/{staged[2]}")["spec"].get("unschedulable")
    assert effects.of() == []


async def test_a_plan_has_a_limit_and_the_loop_goes_on(effects: Effects, staged: Staged, plane: Plane) -> None:
    async with ticking() as still:
        with hung(plane):
            began_s = time.monotonic()
            with pytest.raises(BlackstartError, match="does not answer"):
                await effects.plan("pod.kill", {"namespace": "default", "selector": "app=none"}, 1.0)
            assert time.monotonic() - began_s < 9.0
    assert max(still) < STILL_S, f"the loop stood still for {max(still):.1f} s"


async def test_the_look_at_the_end_of_a_run_leaves_the_loop_alone(
    effects: Effects, staged: Staged, plane: Plane
) -> None:
    await cordon(effects, staged)
    await effects.revert(effects.of())
    async with ticking() as still:
        with hung(plane):
            (left,) = await effects.residue("run")
            assert "whether it is as before cannot be told" in left
    assert max(still) < STILL_S, f"the loop stood still for {max(still):.1f} s"
    assert await effects.residue("run") == []


def start_again(staged: Staged, journal: Journal) -> Effect:
    """What an agent that was killed with its holder and its guardian has left: a node that is cordoned."""
    _, effect = planned("node.cordon", {"node": staged[2]}, duration_s=600.0)
    effect.run_id, effect.injection = "run", "first"
    undo.record(journal, "intent", effect, "agent")
    kube_hold.take(kube.SESSION, effect.facts)
    undo.record(journal, "injected", effect, "agent")
    return effect


@pytest.mark.parametrize("how", ["away", "hung"])
async def test_an_agent_that_starts_without_the_server_does_not_wait_and_tries_until_it_is_there(
    how: str, effects: Effects, staged: Staged, plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    effect, path = start_again(staged, journal), f"/api/v1/nodes/{staged[2]}"
    settings = json.loads(plane.admin.read_text())
    settings["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    (tmp_path / "kubeconfig").write_text(json.dumps(settings))
    with contextlib.ExitStack() as stack:
        if how == "away":
            monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        else:
            stack.enter_context(hung(plane))
        began_s = time.monotonic()
        rows, left = await begin(journal)
        assert time.monotonic() - began_s < 1.0
        assert (rows, [one.id for one in left]) == ([], [effect.id])
        async with ticking() as still:
            (row,) = await effects.adopt(left)
        assert (row["state"], row["run_id"]) == ("stranded", "run")
        assert max(still) < STILL_S
        monkeypatch.setenv("KUBECONFIG", str(plane.admin))
    async with asyncio.timeout(30):
        while effects.in_force():
            await asyncio.sleep(0.1)
    assert not staged[0].get(path)["spec"].get("unschedulable")
    assert journal.in_force() == []
    journal.close()
