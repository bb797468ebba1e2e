"""A workload whose controller goes away, or comes back with the emergency stop: a real agent, over the real link."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from protos import blackstart_agent_pb2 as pb
from tests.chaos import case as cases
from tests.integration.hostile_rig import HostileController, Node, let_loose, welcome

pytestmark = pytest.mark.alone
LONG = ["sleep", "65.432"]
POLICY = f"commands: [{LONG}]\n"


@pytest.fixture
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HostileController, Node]]:
    with let_loose(tmp_path_factory, POLICY) as both:
        yield both


def runs(node: Node) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(child.cmdline() == LONG for child in psutil.Process(node.process.pid).children())
    return False


def begun(controller: HostileController, node: Node, **more: Any) -> str:
    sent = controller.send("workload.run", {"kind": "command", "spec": {"argv": LONG, "timeout_s": 600}}, **more)
    controller.wait(lambda: runs(node) or controller.results.get(sent), 10.0)
    assert sent not in controller.results, controller.results[sent]
    return sent


def test_it_ends_with_the_lease(rig):
    controller, node = rig
    controller.reconnected(welcome(lease_s=1.0))
    order = begun(controller, node)
    waiting = controller.send("workload.run", {"kind": "command", "spec": {"argv": LONG}}, run_id="later",
                              not_before_ns=time.monotonic_ns() + 4_000_000_000)  # fmt: skip
    controller.greeting = []  # connections come up, and no word of a controller with them
    controller.drop()
    cases.wait_until(lambda: not runs(node), 8.0)
    with pytest.raises(AssertionError, match="not within"):  # what waited for its moment begins no more
        cases.wait_until(lambda: runs(node), 4.0)
    controller.reconnected(welcome())
    assert controller.result(order).status == pb.STATUS_FAILED
    assert controller.result(waiting).status == pb.STATUS_REFUSED


def test_it_ends_at_a_welcome_with_the_emergency_stop(rig):
    controller, node = rig
    order = begun(controller, node)
    controller.reconnected(welcome(stopped=True))
    cases.wait_until(lambda: not runs(node), 5.0)
    assert controller.result(order).status == pb.STATUS_FAILED
    refused = controller.order("workload.run", {"kind": "command", "spec": {"argv": LONG}})
    assert refused.status == pb.STATUS_REFUSED
    assert "emergency stop" in refused.message
