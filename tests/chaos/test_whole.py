"""The whole of it under SIGKILL: a real controller, real agents with their guardians, real faults in force."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.system import proc
from blackstart.client import Client
from blackstart.local.stack import Stack
from protos.error import BlackstartError
from tests.chaos.case import wait_until
from tests.chaos.subject.process import members, target

pytestmark = [pytest.mark.alone, pytest.mark.chaos, pytest.mark.timeout(300)]
LEASE_S = 1.0
DURATION_S = 2.5
KILLS_PER_CASE = int(os.environ.get("BLACKSTART_CHAOS_WHOLE", "2"))  # `make chaos` makes more
EXPERIMENT = {
    "version": "1.0.0", "title": "driven by a test", "description": "driven by a test",
    "method": [{"type": "action", "name": "end",
                "provider": {"type": "python", "module": "blackstart.chaos", "func": "revert"}}],
}  # fmt: skip


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("BLACKSTART_CONTROLLER_LEASE_S", str(LEASE_S))
    monkeypatch.setenv("BLACKSTART_CONTROLLER_HEARTBEAT_S", "0.2")
    with Stack(tmp_path / "state") as made:
        made.controller("127.0.0.1:0")
        made.agent("a", {"host": "a"})
        made.await_agents(1)
        yield made


def child(pid: int, module: str) -> list[int]:
    """Children of *pid* that run *module*."""
    found = []
    for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
        with contextlib.suppress(OSError):
            if module in Path(f"/proc/{one}/cmdline").read_text(encoding="utf-8"):
                found.append(int(one))
    return found


def inject(stack: Stack, pid: int, on_lost: str, duration_s: float = DURATION_S) -> threading.Thread:
    """Orders a pause from a thread of its own: the controller may die under it."""

    def order() -> None:
        with contextlib.suppress(BlackstartError, ValueError), Client(stack.settings) as client:
            run = client.open_run(EXPERIMENT, source="test")
            arguments = {
                "fault": "process.pause", "targets": {"labels": {"host": "a"}}, "spec": {"pid": pid},
                "duration_s": duration_s, "on_lost_controller": on_lost,
            }  # fmt: skip
            client.invoke(run.id, "inject", arguments)

    thread = threading.Thread(target=order, daemon=True)
    thread.start()
    return thread


def member(stack: Stack, name: str) -> Any:
    return next(one for one in stack.members if one.name == name)


def kill(stack: Stack, parts: str) -> None:
    """SIGKILL to the named parts, in one go."""
    agent_pid = member(stack, "agent a").process.pid
    doomed = []
    if "controller" in parts:
        doomed.append(member(stack, "controller").process.pid)
    if "guardian" in parts:
        doomed += child(agent_pid, "agent.guardian")
    if "agent" in parts:
        doomed.append(agent_pid)
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)


def restart(stack: Stack, parts: str) -> None:
    assert stack.settings is not None
    for part, name in (("controller", "controller"), ("agent", "agent a")):
        if part in parts:
            gone = member(stack, name)
            gone.stop()
            stack.members.remove(gone)
    if "controller" in parts:
        stack.controller(stack.settings.controller)
    if "agent" in parts:
        stack.agent("a", {"host": "a"})


@pytest.mark.parametrize("on_lost", ["revert", "hold"])
@pytest.mark.parametrize("parts", ["controller", "controller agent", "controller agent guardian"])
def test_whatever_dies_the_effect_ends_on_time_and_the_next_one_works(stack: Stack, parts: str, on_lost: str) -> None:
    chance = random.Random(f"{parts} {on_lost}")
    for trial in range(KILLS_PER_CASE):
        with target() as (process, below):
            stopped = lambda: [one for one in members(process.pid, below) if proc.is_stopped(one)]  # noqa: E731
            order = inject(stack, process.pid, on_lost)
            if trial % 2 == 0:
                wait_until(stopped, 10.0)
                injected_s = time.monotonic()
                time.sleep(chance.uniform(0.0, 0.5))
            else:
                time.sleep(chance.uniform(0.05, 0.6))  # somewhere between the order and the receipt
                injected_s = time.monotonic()
            kill(stack, parts)
            killed_s = time.monotonic()
            if "agent" in parts:
                bound_s = killed_s + 0.5  # the kernel: nobody is left to do anything
            elif on_lost == "revert":
                bound_s = killed_s + LEASE_S + 0.2 + 0.5
            else:
                bound_s = injected_s + DURATION_S + 0.5
            time.sleep(0.1)
            wait_until(lambda: not stopped(), 10.0)  # noqa: B023
            assert time.monotonic() <= bound_s, f"trial {trial}: {time.monotonic() - bound_s:.2f} s too late"
            restart(stack, parts)
            stack.await_agents(1)
            order.join(30)
            time.sleep(0.3)
            assert not stopped(), f"trial {trial}: in force again"
            assert len(members(process.pid, below)) == 2


def test_a_controller_that_comes_back_with_an_old_epoch_is_refused(stack: Stack, tmp_path: Path) -> None:
    assert stack.settings is not None
    state = stack.state / "controller"
    kill(stack, "controller")
    member(stack, "controller").process.wait(5)
    shutil.copytree(state, tmp_path / "old")
    for _ in range(2):  # two leaders later
        restart(stack, "controller")
        stack.await_agents(1)
        kill(stack, "controller")
    gone = member(stack, "controller")
    gone.process.wait(5)
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "old", state)
    restart(stack, "controller")

    def refused() -> bool:
        logs = (path.read_text(encoding="utf-8") for path in (stack.state / "log").iterdir())
        return any("is older than" in text for text in logs)

    wait_until(refused, 40.0)  # the pauses between an agent's attempts grow to 15 s
    with Client(stack.settings) as client:
        assert not [agent for agent in client.agents() if agent.connected]


def test_two_agents_on_one_node_leave_each_others_effects_alone(stack: Stack) -> None:
    stack.agent("b", {"host": "b"})
    stack.await_agents(2)
    with target() as (first, _), target() as (second, _):
        order = inject(stack, first.pid, "hold", 20.0)
        with Client(stack.settings) as client:
            run = client.open_run(EXPERIMENT, source="test")
            arguments = {"fault": "process.pause", "targets": {"labels": {"host": "b"}}, "spec": {"pid": second.pid},
                         "duration_s": 20.0, "on_lost_controller": "hold"}  # fmt: skip
            client.invoke(run.id, "inject", arguments)
        wait_until(lambda: all(proc.is_stopped(one) for one in members(first.pid, second.pid)), 10.0)
        kill(stack, "agent")
        wait_until(lambda: not proc.is_stopped(members(first.pid)[0]), 2.0)
        clean = [sys.executable, "-m", "agent", "doctor", "--clean", "--json", "--state", str(stack.state / "agent-a")]
        wait_until(lambda: subprocess.run(clean, capture_output=True, check=False).returncode == 0, 10.0)
        assert proc.is_stopped(members(second.pid)[0]), "the other agent's effect was ended"
        order.join(30)
        gone = member(stack, "agent a")
        gone.stop()
        stack.members.remove(gone)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small disk")
@pytest.mark.parametrize("when", ["before", "in force"])
def test_a_full_disk_under_the_journal_costs_no_undo(when: str, tmp_path: Path) -> None:
    """Nothing is injected without a journal; what is in force ends all the same, by the guardian too."""
    script = (
        f"mount -t tmpfs -o size=256k none {tmp_path} && exec {sys.executable} -m tests.chaos.full_disk {tmp_path} "
    )
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script + f"'{when}'"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert seen["resumed"]
    assert seen["refused"] == (when == "before")
    assert seen["clean"]
