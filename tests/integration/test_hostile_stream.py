"""What a hostile controller does to the stream, to the policy's owner and to time itself; see `hostile_rig`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.system import proc
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

pytestmark = pytest.mark.alone
Rig = tuple[HostileController, Node]
FLOOD = 3000


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with let_loose(tmp_path_factory, attempts.POLICY) as both:
        yield both


@pytest.fixture
def hostile(rig: Rig) -> Iterator[Rig]:
    yield rig
    at_rest(*rig)


def long_field(order_id: str, size: int) -> bytes:
    arguments = b'{"injection": "' + b"x" * size + b'"}'
    order = pb.Order(id=order_id, kind="fault.inject", arguments_json=arguments, epoch=EPOCH)
    return pb.ControllerMessage(order=order).SerializeToString()


@pytest.mark.parametrize(
    "sent",
    [
        long_field("fifty-megabytes", 50_000_000),
        pb.ControllerMessage(order=pb.Order(id="xx", kind="node.lift")).SerializeToString().replace(b"xx", b"\xc3\x28"),
        b"\xff" * 64,
        b"\x1a\x7f",
    ],
    ids=["50 MB", "bad UTF-8", "no message", "cut short"],
)
def test_what_cannot_be_read_ends_the_stream_and_nothing_else(hostile: Rig, sent: bytes) -> None:
    controller, node = hostile
    before, lines = node.seen(), len(node.audit())
    stream = controller.stream()
    stream.send(sent)
    assert stream.ended.wait(10)
    controller.drop()
    assert controller.order("fault.revert").status == pb.STATUS_DONE
    assert [row["kind"] for row in node.audit()[lines:]] == ["stream"]
    assert settled(node, before) == before


def test_a_long_order_that_grpc_lets_through_is_refused_in_few_words(hostile: Rig) -> None:
    controller, node = hostile
    for body in (b'{"injection": "' + b"x" * 8_000_000 + b'"}', b'{"' + b"\\u0000" * 40_000 + b'": 1}'):
        result = controller.order("fault.inject", body)
        refused(node, result)
        assert len(result.message) <= 4000, "an answer that gRPC cannot carry would block the spool for ever"
    refused(node, controller.order("x" * 64))


def test_a_second_welcome_and_false_acknowledgements_harm_nothing(hostile: Rig) -> None:
    controller, node = hostile
    stream = controller.stream()
    for sequence in (2**64 - 1, 2**63, 0):
        stream.send(pb.ControllerMessage(ack=pb.Ack(sequence=sequence)))
    assert controller.order("fault.revert").status == pb.STATUS_DONE
    lines = len(node.audit())
    stream.send(welcome(epoch=EPOCH, stopped=False))
    assert stream.ended.wait(5)
    assert node.audit()[lines]["why"] == "a second welcome on one stream"


def test_lifting_the_stop_lifts_nothing_of_the_policy(hostile: Rig) -> None:
    controller, node = hostile
    before = node.seen()
    assert controller.order("node.stop").status == pb.STATUS_DONE
    refused(node, controller.order(*attempts.inject("process.pause", {"pid": node.target})), "emergency stop")
    controller.reconnected(welcome(stopped=True))
    refused(node, controller.order(*attempts.inject("process.pause", {"pid": node.target})), "emergency stop")
    assert controller.order("node.lift").status == pb.STATUS_DONE
    refused(node, controller.order(*attempts.inject("process.pause", {"pid": 1})), "protected")
    assert settled(node, before) == before


def test_a_policy_made_narrower_after_the_plan_counts(hostile: Rig) -> None:
    controller, node = hostile
    before = node.seen()
    order = attempts.inject("process.pause", {"pid": node.target})
    planned = {key: value for key, value in order[1].items() if key != "injection"}
    assert controller.order("fault.plan", planned).status == pb.STATUS_DONE
    try:
        node.reload(attempts.POLICY.replace("process.pause, ", ""))
        refused(node, controller.order(*order), "does not opt in")
        node.reload(attempts.POLICY.replace("longest_s: 30", "longest_s: 9"))
        refused(node, controller.order(*order), "longer than")
        for broken in ("faults: [", "longest_s: .nan", "longest_s: .inf", "- a", "\t", "longest_s: 2020-99-99"):
            node.reload(broken)
            refused(node, controller.order(*order), "(9 s)")
    finally:
        node.reload(attempts.POLICY)
    assert settled(node, before) == before


def test_an_endless_lease_does_not_make_an_effect_endless(hostile: Rig) -> None:
    controller, node = hostile
    before = node.seen()
    order = attempts.inject("process.pause", {"pid": node.target}, duration_s=1.0, on_lost_controller="hold")
    assert controller.order(*order).status == pb.STATUS_DONE
    target = proc.identify(node.target)
    assert target is not None
    assert cases.wait_until(lambda: not proc.is_stopped(target), 5.0) <= 1.5
    assert settled(node, before) == before


@pytest.mark.parametrize(
    "messages", [[welcome(epoch=EPOCH - 1)], []], ids=["an old controller, refused at every welcome", "no welcome"]
)
def test_who_only_answers_heartbeats_does_not_keep_the_lease_alive(hostile: Rig, messages: list[Any]) -> None:
    controller, node = hostile
    before = node.seen()
    controller.reconnected(welcome(lease_s=1.0))
    order = attempts.inject("process.pause", {"pid": node.target}, duration_s=30.0)
    assert controller.order(*order).status == pb.STATUS_DONE
    controller.reconnected(*messages)
    target = proc.identify(node.target)
    assert target is not None
    assert cases.wait_until(lambda: not proc.is_stopped(target), 10.0) <= 4.0
    assert settled(node, before) == before


def test_a_flood_is_held_off_and_the_stop_gets_through(hostile: Rig) -> None:
    controller, node = hostile
    pause = attempts.inject("process.pause", {"pid": node.target})
    assert controller.order(*pause).status == pb.STATUS_DONE
    sent = [controller.send(*attempts.inject("process.pause", {"pid": 1}), run_id="flood") for _ in range(FLOOD)]
    begun = time.monotonic()
    assert controller.order("node.stop").status == pb.STATUS_DONE
    stop_s = time.monotonic() - begun
    results = [controller.result(one, 60) for one in sent]
    assert all(result.status in TURNED_AWAY for result in results)
    assert sum("orders" in result.message for result in results) > FLOOD / 2
    print(f"\n{FLOOD} orders at once; the stop after them was carried out {stop_s:.2f} s after it was sent")

    def counted() -> bool:
        rows = node.audit()
        one_by_one = {row.get("order") for row in rows} & set(sent)
        return len(one_by_one) + sum(row.get("unwritten", 0) for row in rows) >= FLOOD

    cases.wait_until(counted, 10.0)
    assert (node.state / "audit.jsonl").stat().st_size < 1_000_000
    time.sleep(3.0)  # the bucket of orders fills again, for who comes next


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("a pattern that never ends", {"pattern": "(.*)*(.*)*(.*)*(.*)*(.*)*x$|(([a-z-]+)+)+[^a-z]{9}9"}),
        ("a pipe that nobody writes", {"pid_file": "{fifo}"}),
    ],
)
def test_no_target_hangs_the_agent(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, name: str, spec: dict[str, str]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    spec = {key: text.replace("{fifo}", str(tmp_path / "fifo")) for key, text in spec.items()}
    with let_loose(tmp_path_factory, attempts.POLICY) as (controller, node):
        try:
            refused(node, controller.result(controller.send(*attempts.inject("process.pause", spec)), 4.0))
        finally:
            node.process.send_signal(signal.SIGKILL)


def test_no_file_is_read_out_through_a_pid_file(hostile: Rig, tmp_path: Path) -> None:
    controller, node = hostile
    (tmp_path / "secret").write_text("root:hunter2")
    result = controller.order(*attempts.inject("process.pause", {"pid_file": str(tmp_path / "secret")}))
    refused(node, result)
    assert "hunter2" not in result.message


def test_following_does_not_get_past_the_number_of_effects(hostile: Rig) -> None:
    controller, node = hostile
    follow = attempts.inject("process.pause", {"pattern": "target-[01]"}, follow=True, injection="follow")
    assert controller.order(*follow).status == pb.STATUS_DONE
    for target in node.targets[:2]:
        cases.end(target)
    cases.wait_until(lambda: not node.seen()["journal"], 5.0)
    for at in (2, 3):
        pause = attempts.inject("process.pause", {"pid": node.targets[at].pid}, injection=f"i{at}")
        assert controller.order(*pause).status == pb.STATUS_DONE
    for at in (0, 1):
        node.start_target(at)
    time.sleep(2.0)
    assert len(node.seen()["journal"]) <= 2
