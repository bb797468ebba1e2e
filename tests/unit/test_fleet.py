from __future__ import annotations

import asyncio

import pytest

from controller.dispatch import Dispatch
from controller.fleet import EXACT, Fleet
from controller.run import measure
from controller.run.variable import substituted, typed
from protos import blackstart_agent_pb2 as pb
from protos.error import FaultError, ProbeError, RefusedError, SpecError, StrandedError, TransientError

S = 1_000_000_000


class Recorder:
    """A link that keeps what was sent."""

    def __init__(self):
        self.sent, self.closed = [], ""

    def send(self, message):
        self.sent.append(message)

    def close(self, reason):
        self.closed = reason


async def joined(fleet, name="a", boot="b1", **more):
    link = Recorder()
    member = await fleet.attach(pb.Hello(agent_id=name, boot_id=boot, **more), link, now_ns=0, wall_ns=0)
    return member, link


def fleet():
    return Fleet(boot_id="here", lease_s=10)


async def test_a_second_connection_replaces_the_first():
    registry = fleet()
    member, first = await joined(registry)
    again, second = await joined(registry)
    assert again is member
    assert "replaced" in first.closed
    assert member.link is second
    assert not await registry.detach(member, first)
    assert member.connected


async def test_a_silent_agent_is_lost_after_its_lease():
    registry = fleet()
    member, link = await joined(registry)
    assert await registry.expire(10 * S) == []
    registry.heard(member, now_ns=5 * S, wall_ns=0)
    assert await registry.expire(15 * S) == []
    assert await registry.expire(15 * S + 1) == [member]
    assert not member.connected
    assert "lease" in link.closed


async def test_waiting_for_agents_ends_when_they_come():
    registry = fleet()
    waiting = asyncio.create_task(registry.wait_for(["a", "z"], 30))
    await asyncio.sleep(0)
    await joined(registry, "a")
    await joined(registry, "z")
    assert await waiting == set()
    assert await registry.wait_for(["q"], 0.0) == {"q"}


async def test_agents_on_one_kernel_have_exactly_one_clock():
    registry = fleet()
    one, _ = await joined(registry, "one", "same")
    two, _ = await joined(registry, "two", "same")
    other, _ = await joined(registry, "other", "else")
    assert registry.translation(one, two) == EXACT
    assert registry.translation(one, other) is None
    for member in (one, two):
        member.agent_ns = 1000
        member.estimator.add(1000, 1400, 1410, 1900)
    assert registry.translation(one, two) == EXACT
    two.estimator = type(two.estimator)()
    two.estimator.add(1000, 9_001_400, 9_001_410, 1900)  # a time namespace: same boot id, another clock
    shifted = registry.translation(one, two)
    assert shifted != EXACT
    assert shifted.offset_ns - shifted.error_ns <= -9_000_000 <= shifted.offset_ns + shifted.error_ns


async def test_a_new_boot_forgets_the_old_clock():
    registry = fleet()
    member, _ = await joined(registry)
    member.estimator.add(1, 2, 3, 4)
    await joined(registry)
    assert len(member.estimator) == 1
    await joined(registry, boot="b2")
    assert len(member.estimator) == 0


async def test_capabilities_say_what_is_missing():
    registry = fleet()
    row = pb.Capability(family="fault", kind="network.partition", available=False, missing="nft")
    member, _ = await joined(registry, capabilities=[row])
    assert member.missing("fault", "network.partition") == "nft"
    assert "it has network.partition" in member.missing("fault", "x")


def answered(link, **result):
    order = link.sent[-1].order
    return pb.Result(order_id=order.id, **result)


async def ordered(status, kind="fault.inject"):
    registry = fleet()
    _, link = await joined(registry)
    dispatch = Dispatch(registry, 7)
    task = asyncio.create_task(dispatch.order("a", kind, {"x": 1}, run_id="r"))
    await asyncio.sleep(0)
    assert link.sent[-1].order.epoch == 7
    dispatch.resolve("someone else", answered(link, status=pb.STATUS_DONE))
    assert not task.done()
    dispatch.resolve("a", answered(link, status=status, message="why", body_json=b'{"y": 2}'))
    return await task


async def test_an_order_returns_its_body():
    assert await ordered(pb.STATUS_DONE) == {"y": 2}


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (pb.STATUS_REFUSED, "fault.inject", RefusedError), (pb.STATUS_INVALID, "fault.inject", SpecError),
        (pb.STATUS_FAILED, "fault.inject", FaultError), (pb.STATUS_FAILED, "probe.observe", ProbeError),
        (pb.STATUS_STRANDED, "fault.revert", StrandedError), (pb.STATUS_EXPIRED, "fault.inject", TransientError),
    ],
)  # fmt: skip
async def test_a_status_becomes_the_error_of_who_must_act(status, kind, error):
    with pytest.raises(error, match="a: why"):
        await ordered(status, kind)


async def test_an_unanswered_order_is_sent_again_under_the_same_id_and_times_out():
    registry = fleet()
    _, link = await joined(registry)
    dispatch = Dispatch(registry, 1)
    task = asyncio.create_task(dispatch.order("a", "probe.stop", {}, timeout_s=0.05))
    await asyncio.sleep(0)
    _, fresh = await joined(registry)
    assert dispatch.resend("a") == 1
    assert fresh.sent[0].order.id == link.sent[0].order.id
    with pytest.raises(TransientError, match="did not answer"):
        await task
    assert dispatch.resend("a") == 0


def effect(agent="a", lo=100, hi=200, **more):
    return {"agent_id": agent, "id": "e", "injected_lo_ns": lo, "injected_hi_ns": hi, "undo": "kernel", **more}


def test_the_instant_of_several_effects_is_that_of_the_first_and_widens_across_clocks():
    from controller.fleet import Translation

    clocks = {"a": EXACT, "b": Translation(1000, 50)}
    found = measure.instant([effect(), effect("b", 1, 10)], clocks)
    assert (found.lo_ns, found.hi_ns, found.reverted_ns) == (100, 200, None)
    found = measure.instant([effect("b", 1, 10, reverted_ns=500)], clocks)
    assert (found.lo_ns, found.hi_ns, found.reverted_ns) == (951, 1060, 1550)
    with pytest.raises(ProbeError, match="offset of z"):
        measure.instant([effect("z")], clocks)
    with pytest.raises(ProbeError, match="took hold nowhere"):
        measure.instant([effect(lo=0, hi=0)], clocks)


@pytest.mark.parametrize(
    ("lo", "hi", "rto", "confirmed", "result"),
    [
        (1, 2, 2, True, "met"), (1, 3, 2, True, "inconclusive"), (3, 4, 2, True, "missed"),
        (1, 2, None, True, "not tested"), (1, 2, 9, False, "inconclusive"),
    ],
)  # fmt: skip
def test_a_recovery_beside_its_objective(lo, hi, rto, confirmed, result):
    entry = {"recovered": True, "value_s": lo, "lo_s": lo, "hi_s": hi}
    assert measure.result(entry, rto, confirmed=confirmed) == result


@pytest.mark.parametrize(
    ("lo_s", "hi_s", "told"),
    [
        (3.9, 4.0, ""), (9.6, 9.7, "within half a second"), (9.9, 10.2, "within half a second"),
        (10.1, 10.2, "only after"), (70.0, 70.1, "only after"), (2.0, 12.0, "perhaps"), (9.0, 9.9, ""),
    ],
)  # fmt: skip
def test_a_recovery_that_came_with_the_end_of_the_fault_is_told_apart(lo_s, hi_s, told):
    entry = {"recovered": True, "lo_s": lo_s, "hi_s": hi_s, "outages": [1]}
    found = measure.beside_end(entry, measure.Instant(0, 5, 10_000_000_000))
    assert (told in found) if told else not found
    assert not measure.beside_end(entry, measure.Instant(0, 5, None)), "it is in force, or over at once"
    assert not measure.beside_end(entry | {"outages": []}, measure.Instant(0, 5, 10_000_000_000))


def test_variables_take_the_type_of_their_default():
    experiment = {"configuration": {"n": 3, "x": 0.5, "on": False, "s": "a", "e": {"type": "env", "default": "d"}}}
    given = {"n": "5", "x": "2", "on": "true", "s": "7", "e": "z"}
    assert typed(experiment, given) == {"n": 5, "x": 2.0, "on": True, "s": "7", "e": "z"}
    with pytest.raises(SpecError) as caught:
        typed(experiment, {"n": "many", "q": "1"})
    assert len(caught.value.problems) == 2
    document = {"a": "${n}", "b": ["${s}/x-${e}"], "c": "${unknown}"}
    assert substituted(document, experiment, {"n": "9"}) == {"a": 9, "b": ["a/x-d"], "c": "${unknown}"}
