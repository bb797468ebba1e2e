"""What is particular to `container.*`, beside the contract that all faults keep: whose container, and its way back."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agent.faults import registry
from agent.faults.base import Effect
from agent.policy import Policy
from agent.system import engine, proc
from protos.error import FaultError, RefusedError, SpecError
from tests.chaos import dockerd
from tests.chaos.case import wait_until
from tests.chaos.subject.container import client, container, network, remove, settings, status


@pytest.fixture(autouse=True)
def _marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLACKSTART_TEST", str(os.getpid()))


@pytest.fixture
def docker() -> Iterator[Any]:
    if reason := dockerd.missing():
        pytest.skip(reason)
    with client() as made:
        yield made


@pytest.fixture
def one(docker: Any) -> Iterator[Any]:
    with container(docker) as made:
        yield made


def planned(kind: str, **spec: Any) -> tuple[Any, list[Effect]]:
    faults = registry.all_faults()
    effects = registry.plan(faults, kind, spec)
    for effect in effects:
        effect.boot_id, effect.deadline_ns = proc.boot_id(), time.monotonic_ns() + 30_000_000_000
    return faults[kind], effects


async def put_in_force(fault: Any, effect: Effect) -> Any:
    fault.prepare(effect)
    return await fault.observe(effect, await fault.inject(effect))


async def test_a_container_that_has_taken_the_name_is_not_touched(docker: Any, one: Any) -> None:
    fault, (effect,) = planned("container.pause", name=one.name)
    await put_in_force(fault, effect)
    name = one.name
    remove(one)
    with container(docker, name=name) as other:
        other.pause()
        await fault.revert(effect)
        assert fault.residue(effect) == []
        assert status(other) == "paused"


async def test_what_somebody_else_has_paused_before_we_did_stays_paused(one: Any) -> None:
    fault, (effect,) = planned("container.pause", name=one.name)
    fault.prepare(effect)
    one.pause()
    with pytest.raises(FaultError, match="not as it was planned"):
        await fault.inject(effect)
    assert status(one) == "paused"


@pytest.mark.parametrize("kind", ["container.pause", "container.kill", "container.stop"])
async def test_a_paused_or_stopped_container_is_refused(one: Any, kind: str) -> None:
    one.pause()
    with pytest.raises(RefusedError, match="is paused already"):
        planned(kind, name=one.name)
    one.unpause()
    one.kill()
    with pytest.raises(RefusedError, match="is exited already"):
        planned(kind, name=one.name)


async def test_what_would_be_removed_when_it_stops_is_not_stopped(docker: Any) -> None:
    with container(docker, auto_remove=True) as made, pytest.raises(RefusedError, match="could not be started again"):
        planned("container.stop", name=made.name)


async def test_names_labels_and_images_find_their_containers_and_zero_is_an_error(docker: Any) -> None:
    label = f"test-{secrets.token_hex(6)}"
    with container(docker, labels=[label]) as first, container(docker, labels=[label]):
        _, effects = planned("container.pause", label=label)
        assert len({effect.resource for effect in effects}) == 2
        image = first.commit(repository=label)
        with container(docker, image=label) as third:
            _, (effect,) = planned("container.pause", image=label)
            assert effect.facts["id"] == third.id
        docker.images.remove(image.id, force=True)
        assert planned("container.pause", name=first.id)[1][0].facts["name"] == first.name
        for spec in ({"label": "test-nowhere"}, {"name": first.name[:-1]}, {"image": "none:1"}, {}):
            with pytest.raises(SpecError):
                planned("container.pause", **spec)


async def test_the_policy_protects_containers_by_name(one: Any) -> None:
    _, (effect,) = planned("container.kill", name=one.name)
    with pytest.raises(RefusedError, match="is protected by the node's policy"):
        Policy(faults=["*"], protected_containers=["test-*"]).check(effect, 0.0, [])
    Policy(faults=["*"]).check(effect, 0.0, [])


async def test_a_pause_that_was_lifted_by_somebody_else_is_not_confirmed(one: Any) -> None:
    fault, (effect,) = planned("container.pause", name=one.name)
    fault.prepare(effect)
    injected = await fault.inject(effect)
    one.unpause()
    receipt = await fault.observe(effect, injected)
    await fault.revert(effect)
    assert not receipt.confirmed
    assert "not frozen" in receipt.text


async def test_a_killed_holder_leaves_it_to_revert_and_the_audit_says_so(one: Any) -> None:
    fault, (effect,) = planned("container.pause", name=one.name)
    await put_in_force(fault, effect)
    os.kill(effect.facts["holder"]["pid"], 9)
    await asyncio.sleep(0.2)
    assert status(one) == "paused"
    assert "is still paused" in " ".join(fault.residue(effect))
    assert "docker" in fault.remedy(effect)
    await registry.all_faults()["container.pause"].revert(effect)  # from the facts alone
    assert status(one) == "running"
    await fault.revert(effect)


async def test_a_container_that_was_started_meanwhile_is_left_alone(one: Any) -> None:
    fault, (effect,) = planned("container.stop", name=one.name, grace_s=0)
    await put_in_force(fault, effect)
    one.start()
    one.kill()  # by somebody else, in a run that is not ours
    await fault.revert(effect)
    assert status(one) == "exited"
    assert fault.residue(effect) == []


async def test_a_stop_lets_the_container_end_by_itself_and_keeps_its_restart_policy(docker: Any) -> None:
    with container(docker, restart_policy={"Name": "always"}) as made:
        fault, (effect,) = planned("container.stop", name=made.name, grace_s=5)
        receipt = await put_in_force(fault, effect)
        code = (status(made), made.attrs["State"]["ExitCode"])
        await fault.revert(effect)
        assert receipt.confirmed, receipt.text
        assert code == ("exited", 0)  # its trap ran
        assert status(made) == "running"
        assert made.attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"


async def test_the_restart_policy_applies_to_a_crash_and_not_to_a_kill_via_the_engine(docker: Any) -> None:
    for via, after in (("process", "running"), ("engine", "exited")):
        with container(docker, restart_policy={"Name": "always"}) as made:
            fault, (effect,) = planned("container.kill", name=made.name, via=via)
            receipt = await put_in_force(fault, effect)
            assert receipt.confirmed, receipt.text
            await asyncio.to_thread(wait_until, lambda made=made, after=after: status(made) == after, 5)


async def test_a_signal_that_the_container_catches_is_not_confirmed(
    docker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.faults.container_kill._GONE_S", 0.3)
    with container(docker) as made:
        fault, (effect,) = planned("container.kill", name=made.name, signal="HUP")
        receipt = await put_in_force(fault, effect)
        assert not receipt.confirmed
        assert "runs on" in receipt.text


async def test_aliases_and_a_fixed_address_are_restored_and_other_networks_stay(docker: Any) -> None:
    with (
        network(docker) as net,
        network(docker) as other,
        container(docker, network=other.name, network_mode=None) as made,
    ):
        subnet = net.attrs["IPAM"]["Config"][0]["Subnet"]
        fixed = subnet.replace(".0/24", ".77")
        net.connect(made, ipv4_address=fixed, aliases=["db", "primary"])
        try:
            before = settings(made, net.name), settings(made, other.name)
            with pytest.raises(SpecError, match="one must be named"):
                planned("container.network_disconnect", name=made.name)
            with pytest.raises(SpecError, match="none of container"):
                planned("container.network_disconnect", name=made.name, network="nowhere")
            fault, (effect,) = planned("container.network_disconnect", name=made.name, network=net.id)
            receipt = await put_in_force(fault, effect)
            assert receipt.confirmed, receipt.text
            assert fixed in fault.remedy(effect)
            assert settings(made, net.name) == {}
            assert settings(made, other.name) == before[1]
            await fault.revert(effect)
            assert (settings(made, net.name), settings(made, other.name)) == before
            assert engine.has_address(made.attrs["State"]["Pid"], fixed)
        finally:
            net.disconnect(made, force=True)


async def test_an_address_that_the_engine_chose_and_gave_away_is_another_one(docker: Any) -> None:
    with network(docker) as net, container(docker, network=net.name, network_mode=None) as made:
        fault, (effect,) = planned("container.network_disconnect", name=made.name)
        await put_in_force(fault, effect)
        with container(docker, network=net.name, network_mode=None) as thief:
            assert settings(thief, net.name)["IPAddress"] == effect.facts["network"]["ipv4"]
            await fault.revert(effect)
            assert fault.residue(effect) == []
            now = settings(made, net.name)
            assert now["IPAddress"]
            assert now["IPAddress"] != effect.facts["network"]["ipv4"]
            assert not (now["IPAMConfig"] or {}).get("IPv4Address")


async def test_the_address_is_asked_for_where_the_engine_would_give_another(docker: Any) -> None:
    with (
        network(docker) as net,
        container(docker, network=net.name, network_mode=None) as first,
        container(docker, network=net.name, network_mode=None) as second,
    ):
        remove(first)  # now a lower address is free: the engine would give that one
        before = settings(second, net.name)["IPAddress"]
        fault, (effect,) = planned("container.network_disconnect", name=second.name)
        await put_in_force(fault, effect)
        await fault.revert(effect)
        assert settings(second, net.name)["IPAddress"] == before


async def test_who_is_connected_again_by_somebody_else_is_left_alone(docker: Any) -> None:
    with network(docker) as net, container(docker, network=net.name, network_mode=None) as made:
        fault, (effect,) = planned("container.network_disconnect", name=made.name)
        await put_in_force(fault, effect)
        net.connect(made, aliases=["theirs"])
        await fault.revert(effect)
        assert "theirs" in settings(made, net.name)["Aliases"]


async def test_a_stopped_container_is_not_taken_for_one_that_went_away_and_a_paused_one_that_died_is(one: Any) -> None:
    fault, (effect,) = planned("container.stop", name=one.name, grace_s=0)
    await put_in_force(fault, effect)
    assert not fault.gone(effect)
    await fault.revert(effect)
    fault, (effect,) = planned("container.pause", name=one.name)
    await put_in_force(fault, effect)
    assert not fault.gone(effect)
    remove(one)
    assert fault.gone(effect)
    await fault.revert(effect)


async def test_an_engine_that_does_not_answer_is_an_error_and_never_a_clean_bill(one: Any) -> None:
    fault, (effect,) = planned("container.pause", name=one.name)
    effect.facts["engine"] = "unix:///nonexistent/docker.sock"
    with pytest.raises(FaultError, match="does not answer"):
        await fault.revert(effect)
    with pytest.raises(FaultError, match="cannot be told"):
        fault.residue(effect)
    with pytest.raises(SpecError, match="does not answer"):
        planned("container.pause", name=one.name, engine="unix:///nonexistent/docker.sock")


async def test_a_restart_in_between_makes_the_plan_void(one: Any) -> None:
    for kind in ("container.kill", "container.restart", "container.stop"):
        fault, (effect,) = planned(kind, name=one.name)
        one.restart(timeout=0)
        fault.prepare(effect)
        with pytest.raises(FaultError, match="not as it was planned"):
            await fault.inject(effect)
        await fault.revert(effect)
        assert status(one) == "running"
