"""A controller with a good certificate tries to make a real agent go past its node's policy.

Every attempt is refused, stands in the agent's own audit, and changes nothing on the node.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterator

import pytest

from agent.faults.registry import all_faults
from protos import blackstart_agent_pb2 as pb
from tests.chaos import case as cases
from tests.integration import hostile_attempts as attempts
from tests.integration.hostile_rig import (
    EPOCH,
    TURNED_AWAY,
    HostileController,
    Node,
    at_rest,
    let_loose,
    refused,
    settled,
    welcome,
)

Rig = tuple[HostileController, Node]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with let_loose(tmp_path_factory, attempts.POLICY) as both:
        yield both


@pytest.fixture
def hostile(rig: Rig) -> Iterator[Rig]:
    """The rig, welcomed and at rest; what a test left in force is ended after it."""
    yield rig
    at_rest(*rig)


@pytest.mark.usefixtures("needs_nft")
@pytest.mark.parametrize("name", attempts.ATTEMPTS)
def test_no_order_goes_past_the_policy(rig: Rig, name: str) -> None:
    controller, node = rig
    kind, arguments = attempts.ATTEMPTS[name](node)
    if (asked := attempts.asked(arguments)) in attempts.OPTED and (lacks := all_faults()[asked].missing()):
        pytest.skip(f"{asked} would be refused here in any case: the node lacks {lacks}")
    before = node.seen()
    result = controller.order(kind, arguments)
    refused(node, result)
    assert settled(node, before) == before
    assert not attempts.made(node).exists()


@pytest.mark.usefixtures("needs_nft")
@pytest.mark.parametrize("kind", attempts.OPTED)
def test_what_the_policy_allows_is_done(hostile: Rig, kind: str) -> None:
    """Without this every refusal could be for a reason of no merit."""
    controller, node = hostile
    if lacks := all_faults()[kind].missing():
        pytest.skip(f"{kind} lacks {lacks}")
    specs = {"process.pause": {"pid": node.target}, "network.partition": {"peers": ["10.0.0.200", "fd01::1"]},
             "resource.cpu": {"load_fraction": 0.01}}  # fmt: skip
    before = node.seen()
    result = controller.order(*attempts.inject(kind, specs[kind]), run_id=kind)
    assert result.status == pb.STATUS_DONE, result.message
    assert node.seen() != before
    assert controller.order("run.end", run_id=kind).status == pb.STATUS_DONE
    late = controller.order(*attempts.inject(kind, specs[kind]), run_id=kind)
    assert late.status == pb.STATUS_REFUSED
    assert "has ended" in late.message
    assert settled(node, before) == before


def test_a_holder_and_its_children_are_no_targets(hostile: Rig) -> None:
    controller, node = hostile
    load = {"injection": "load", "fault": "resource.cpu", "spec": {"load_fraction": 0.01}, "duration_s": 20}
    assert controller.order("fault.inject", load).status == pb.STATUS_DONE
    before, holder = node.seen(), node.child("agent.faults.hold")
    assert len(before["holders"]) > 1, "the holder and its load worker"
    for spec in ({"pid": holder}, {"pattern": "agent.faults.hold"}, {"pid": holder + 1, "tree": False}):
        refused(node, controller.order(*attempts.inject("process.pause", spec)))
    assert node.seen() == before
    refused(node, controller.order("fault.inject", load), "held already")
    assert node.seen() == before


def test_a_process_with_a_protected_name_is_no_target(hostile: Rig, tmp_path) -> None:
    controller, node = hostile
    (tmp_path / "guarded-db").symlink_to("/bin/sleep")
    with subprocess.Popen([tmp_path / "guarded-db", "60"]) as guarded:
        before = node.seen()
        for spec in ({"pid": guarded.pid}, {"pattern": "guarded-db 60"}, {"pid": guarded.pid, "mechanism": "sigstop"}):
            refused(node, controller.order(*attempts.inject("process.pause", spec)), "guarded-*")
        assert node.seen() == before
        guarded.kill()


def test_orders_at_once_do_not_get_past_the_number_of_effects(hostile: Rig) -> None:
    controller, node = hostile
    orders = [
        controller.send(*attempts.inject("process.pause", {"pid": target.pid}, injection=f"i{target.pid}"))
        for target in node.targets
    ]
    results = [controller.result(one) for one in orders]
    assert sorted(one.status == pb.STATUS_DONE for one in results) == [False, False, True, True]
    for result in results:
        if result.status != pb.STATUS_DONE:
            refused(node, result, "the policy allows 2")
    assert len(node.seen()["journal"]) == 2
    assert sum(stopped for _, stopped in node.seen()["targets"]) == 2


@pytest.mark.parametrize(
    "greeting",
    [
        {"lease_s": -1.0}, {"lease_s": math.nan}, {"lease_s": math.inf}, {"lease_s": 1e308}, {"lease_s": 1e-9},
        {"heartbeat_s": -1.0}, {"heartbeat_s": math.nan}, {"heartbeat_s": 1e308}, {"heartbeat_s": 1e-9},
        {"epoch": EPOCH - 1}, {"epoch": 0}, {"epoch": 2**63}, {"epoch": 2**64 - 1}, {"acknowledged": 2**64 - 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_controller_that_welcomes_it_with_absurd_terms_is_not_obeyed(
    hostile: Rig, greeting: dict[str, float]
) -> None:
    controller, node = hostile
    before, lines = node.seen(), len(node.audit())
    stream = controller.reconnected(welcome(**greeting))
    order = pb.Order(id=f"after-{greeting}", kind="fault.inject", epoch=EPOCH, actor="mallory",
                     arguments_json=attempts.raw(spec='{"load_fraction": 0.01}'))  # fmt: skip
    stream.send(pb.ControllerMessage(order=order))
    assert stream.ended.wait(5), "the agent ends such a stream"
    cases.wait_until(lambda: len(node.audit()) > lines, 5.0)
    (row, *_) = node.audit()[lines:]
    assert row["kind"] == "welcome"
    assert settled(node, before) == before
    assert not controller.results.get(order.id)


def test_a_lease_of_zero_is_the_default_and_ends_nothing(hostile: Rig) -> None:
    controller, _ = hostile
    controller.reconnected(welcome(lease_s=0.0, heartbeat_s=0.0))
    assert controller.order("fault.revert").status == pb.STATUS_DONE
    lost = sum(event.kind == "controller.lost" for event in controller.events)
    time.sleep(0.5)
    assert sum(event.kind == "controller.lost" for event in controller.events) == lost


def test_orders_before_a_welcome_are_refused(hostile: Rig) -> None:
    controller, node = hostile
    before = node.seen()
    controller.reconnected()
    order_id = controller.send(*attempts.inject("process.pause", {"pid": node.target}))
    cases.wait_until(lambda: node.audited(order_id), 5.0)
    controller.reconnected(welcome())
    refused(node, controller.result(order_id), "no welcome")
    assert settled(node, before) == before


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"epoch": EPOCH - 1}, "epoch"), ({"epoch": 0}, "epoch"), ({"epoch": 2**64 - 1}, "epoch"),
        ({"id": ""}, "no id"),
        ({"id": "x" * 129}, "id is longer"), ({"run_id": "r" * 1000}, "run_id is longer"),
        ({"deadline_s": -1.0}, "deadline"), ({"deadline_s": math.nan}, "deadline"), ({"deadline_s": 1e308}, "deadline"),
        ({"not_before_ns": 2**63 - 1}, "ahead"), ({"not_before_ns": -1}, "ahead"),
    ],
    ids=str,
)  # fmt: skip
def test_an_order_with_an_absurd_envelope_is_refused(hostile: Rig, more: dict[str, object], why: str) -> None:
    controller, node = hostile
    before = node.seen()
    order_id = controller.send(*attempts.inject("process.pause", {"pid": node.target}), **more)
    result = controller.result(order_id[:128])
    if len(order_id) <= 128:
        refused(node, result, why)
    assert result.status in TURNED_AWAY
    assert settled(node, before) == before


def test_an_order_is_carried_out_once(hostile: Rig) -> None:
    controller, node = hostile
    order_id = controller.send("fault.revert")
    assert controller.result(order_id).status == pb.STATUS_DONE
    before = node.seen()
    controller.send(*attempts.inject("process.pause", {"pid": node.target}), id=order_id)
    controller.wait(lambda: len(controller.results[order_id]) > 1)
    assert controller.results[order_id][1] == controller.results[order_id][0]
    assert settled(node, before, 0.5) == before
    refused_id = controller.send(*attempts.inject("process.pause", {"pid": 1}))
    refused(node, controller.result(refused_id))
    controller.send(*attempts.inject("process.pause", {"pid": node.target}), id=refused_id)
    controller.wait(lambda: len(controller.results[refused_id]) > 1)
    assert controller.results[refused_id][1].status == pb.STATUS_REFUSED
    assert settled(node, before, 0.5) == before
