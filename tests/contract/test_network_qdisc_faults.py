"""Faults on packets by a root qdisc of ours: never on somebody else's, and gone afterwards."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.faults.base import Undo
from agent.system import qdisc
from protos.error import FaultError, SpecError
from tests.chaos import case as cases
from tests.chaos.subject import network, network_queue
from tests.chaos.subject.network_queue import FAR
from tests.contract.packet_rig import Process, held, planned, round_trip_ms

pytestmark = pytest.mark.skipif(bool(network_queue.missing()), reason=network_queue.missing() or "-")


@pytest.fixture
def cable() -> Iterator[tuple[Process, Process]]:
    with network_queue.pair() as (near, far):
        yield near, far


def beside(near: Process) -> Process:
    """Another process in the namespace of *near*, which outlives it."""
    return subprocess.Popen(["nsenter", f"--target={near.pid}", "--net", "sleep", "60"])


def device(**more: Any) -> dict[str, Any]:
    return {"mechanism": "tbf", "device": "dev0", "direction": "out", "rate_mbit": 10} | more


async def test_a_qdisc_of_ours_shapes_a_device_and_goes(cable: tuple[Process, Process]) -> None:
    await round_trip_ms(cable[0], FAR)
    before = network_queue.left(cable[0])
    async with held("network.bandwidth", cable[0], **device()) as (fault, effect, seen):
        assert seen.confirmed, seen.text
        assert effect.undo is Undo.GUARDIAN
        assert effect.facts["replaced"] == "noqueue"
        assert "qdisc tbf b1" in network_queue.left(cable[0])["qdiscs"]
        assert fault.residue(effect)
        assert f"root handle {effect.facts['handle']:x}:" in fault.remedy(effect)
    assert network_queue.left(cable[0]) == before


async def test_a_root_that_somebody_has_set_is_never_replaced_and_never_deleted(cable: tuple[Process, Process]) -> None:
    fault, effect = planned("network.bandwidth", cable[0], **device())
    theirs = ("tc", "qdisc", "add", "dev", "dev0", "root", "handle", "77:", "tbf", "rate", "1gbit", "burst", "64k")
    network.inside(cable[0], *theirs, "latency", "50ms")
    before = network_queue.left(cable[0])
    fault.prepare(effect)
    with pytest.raises(FaultError, match="stays as it is"):
        await fault.inject(effect)
    await fault.revert(effect)
    assert network_queue.left(cable[0]) == before
    with pytest.raises(SpecError, match="somebody has set its root"):
        planned("network.bandwidth", cable[0], **device())


async def test_the_holder_deletes_the_qdisc_when_the_agent_is_gone(cable: tuple[Process, Process]) -> None:
    before = network_queue.left(cable[0])
    fault, effect = planned("network.bandwidth", cable[0], **device())
    fault.prepare(effect)
    await fault.inject(effect)
    holder = fault._holders[effect.id]
    holder._child.stdin.close()  # as the kernel does at the agent's end
    await asyncio.to_thread(cases.wait_until, lambda: network_queue.left(cable[0]) == before, 2.0)
    await fault.revert(effect)


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("network.delay", {"delay_ms": 5, "jitter_ms": 6}, "before it was sent"),
        ("network.delay", {"delay_ms": 0}, ">"),
        ("network.bandwidth", device(peers=[FAR]), "not on some of it"),
        ("network.bandwidth", device(direction="both"), "direction must be out"),
        ("network.bandwidth", device(device="none0"), "no device none0"),
        ("network.bandwidth", device(device=""), "acts on a device"),
        ("network.corrupt", {"fraction": 1.5}, "<= 1"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    cable: tuple[Process, Process], kind: str, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        planned(kind, cable[0], **spec)


@pytest.mark.skipif(not qdisc.lacks("netem"), reason="this kernel has netem")
def test_a_kernel_without_netem_says_so(cable: tuple[Process, Process]) -> None:
    with pytest.raises(SpecError, match="CONFIG_NET_SCH_NETEM"):
        planned("network.delay", cable[0], delay_ms=5, mechanism="netem", device="dev0", direction="out")


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("network.delay", {"delay_ms": 20.0, "jitter_ms": 5}),
        ("network.reorder", {"fraction": 0.3, "by_ms": 10}),
        ("network.duplicate", {"fraction": 0.5}),
        ("network.corrupt", {"fraction": 0.5}),
    ],
)
@pytest.mark.skipif(bool(qdisc.lacks("netem")), reason=f"needs {qdisc.lacks('netem')}")
async def test_netem_does_the_same_to_a_device(cable: tuple[Process, Process], kind: str, spec: dict[str, Any]) -> None:
    await round_trip_ms(cable[0], FAR)
    before = network_queue.left(cable[0])
    shaped = {"mechanism": "netem", "device": "dev0", "direction": "out"}
    async with held(kind, cable[0], **shaped, **spec) as (_, _, seen):
        assert seen.confirmed, seen.text
    assert network_queue.left(cable[0]) == before


async def test_a_qdisc_goes_when_the_process_that_named_its_namespace_is_gone(cable: tuple[Process, Process]) -> None:
    near = cable[0]
    before = network_queue.left(near)
    named = beside(near)
    try:
        await asyncio.sleep(0.1)
        fault, effect = planned("network.bandwidth", named, **device())
        fault.prepare(effect)
        await fault.inject(effect)
        assert "qdisc tbf b1" in network_queue.left(near)["qdiscs"]
    finally:
        named.kill()
        named.wait()
    assert fault.residue(effect), "it is still in force, and its namespace lives on"
    await fault.revert(effect)
    assert fault.residue(effect) == []
    assert network_queue.left(near) == before


async def test_a_qdisc_goes_from_a_namespace_that_only_has_a_name(tmp_path: Path) -> None:
    named, name = alone(), tmp_path / "named"
    name.touch()
    await asyncio.sleep(0.1)
    mounted(f"/proc/{named.pid}/ns/net", str(name))
    try:
        fault, effect = planned("network.bandwidth", named, **device(device="lo"))
        fault.prepare(effect)
        await fault.inject(effect)
        assert "qdisc tbf b1" in shown(name)
        named.kill()
        named.wait()
        await fault.revert(effect)
        assert "tbf" not in shown(name)
        assert fault.residue(effect) == []
    finally:
        named.kill()
        named.wait()
        mounted(str(name))


def alone() -> Process:
    """A process in a network namespace of its own."""
    return subprocess.Popen(["unshare", "--net", "sleep", "60"])


def mounted(*where: str) -> None:
    """Gives a namespace a name, or takes it away."""
    command = ["mount", "--bind", *where] if len(where) == 2 else ["umount", *where]
    subprocess.run(command, check=True, capture_output=True)


def shown(name: Path) -> str:
    command = ["nsenter", f"--net={name}", "tc", "qdisc", "show"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
