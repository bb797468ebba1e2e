"""The `kube` probe against a real API server: the contract of all probes, and what becomes of a watch that is cut."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil
import pytest

from agent.probes.engine import ProbeEngine
from agent.probes.registry import build
from blackstart.local.cluster.node import LABEL, fake_nodes
from controller.run import phasing
from protos.error import RefusedError
from protos.recovery import Code
from tests.cluster.conftest import Kubectl
from tests.cluster.kube_rig import AGENT, MODES, NAME, STALE_S, KubeRig, becomes
from tests.contract import test_probe_contract as contract

pytestmark = pytest.mark.timeout(180)
CHECKS = (
    contract.test_up_down_and_up_again,
    contract.test_a_service_that_was_down_at_the_start_is_found,
    contract.test_a_service_that_hangs_is_told_within_the_timeout,
    contract.test_close_releases_everything,
)


@pytest.fixture(scope="module", autouse=True)
def _nodes(plane: Any, programs: Any) -> Iterator[None]:
    fake_nodes(programs["kubectl"], plane.admin, 2)
    yield
    Kubectl(programs["kubectl"], plane.admin)("delete", "nodes", "-l", f"{LABEL}=true")


@pytest.fixture
async def rig(
    plane: Any, kubectl: Kubectl, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[KubeRig]:
    monkeypatch.setenv("KUBECONFIG", str(plane.admin))
    made = KubeRig(plane, kubectl, getattr(request, "param", "selector"))
    yield made
    made.remove()


@pytest.fixture
async def probe(rig: KubeRig) -> AsyncIterator[Any]:
    """Open, and good."""
    made = build("kube", await rig.up(), lambda _: False)
    await made.open()
    await becomes(made, Code.OK)
    yield made
    await made.close()


@pytest.mark.parametrize("rig", MODES, indirect=True)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("test_"))
async def test_contract(rig: KubeRig, check: Any) -> None:
    await check(rig)


def test_a_bad_spec_is_refused_with_every_problem(rig: KubeRig) -> None:
    contract.test_a_bad_spec_is_refused_with_every_problem(rig)


@pytest.mark.parametrize("rig", MODES, indirect=True)
async def test_a_lost_pod_is_told_within_its_bounds_beside_the_servers_own_stamps(
    rig: KubeRig, probe: Any, kubectl: Kubectl
) -> None:
    pod = kubectl("get", "pods", "-l", f"app={NAME}", "-o", "name").split()[0]
    before = len(probe.marks)
    asked_ns, asked_s = time.monotonic_ns(), time.time()
    await asyncio.to_thread(kubectl, "delete", pod, "--wait=false")
    end = time.monotonic() + 60
    while "ready" not in (names := [row["mark"] for row in probe.marks[before:]]):
        assert time.monotonic() < end, names
        await asyncio.sleep(0.02)
    assert await probe.attempt(1) is Code.OK
    rows = {row["mark"]: row for row in probe.marks[before:]}
    bad, good = rows["not_ready"], rows["ready"]
    assert asked_ns <= bad["hi_ns"] <= good["hi_ns"]
    assert all(row["lo_ns"] <= row["hi_ns"] for row in rows.values())
    assert bad["hi_ns"] - bad["lo_ns"] < 3e9, "a bound of use"
    own = {
        "service": {"endpoint_gone", "endpoint_added", "endpoint_ready"},
        "deployment": {"rollout_incomplete", "rollout_complete"},
        "selector": {"pod_deleting", "pod_gone", "pod_created", "pod_scheduled", "pod_started", "pod_ready"},
    }
    mode = next(name for name in MODES if name in rig.spec)
    assert own[mode] <= set(rows) | ({"endpoint_unready"} if mode == "service" else set())
    if mode == "selector":
        stamp = rows["pod_ready"]["api_time"]
        seconds = time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
        assert asked_s - 1 <= seconds <= time.time()
        assert f"{stamp} by the API server" in good["text"]


async def test_a_frozen_server_is_no_data_and_its_watch_goes_on_from_where_it_was(
    rig: KubeRig, probe: Any, kubectl: Kubectl
) -> None:
    frozen_ns = time.monotonic_ns()
    rig.signal("kube-apiserver", signal.SIGSTOP)
    await becomes(probe, Code.ERROR, within_s=STALE_S + 1)
    lost = probe.marks[-1]
    assert lost["mark"] == "watch_lost"
    assert lost["lo_ns"] <= frozen_ns + 2e8, "the last word that it was up to date is from before"
    rig.wake()
    await becomes(probe, Code.OK)
    before = len(probe.marks)
    await rig.down()
    assert await probe.attempt(1) is Code.BAD
    names = [row["mark"] for row in probe.marks]
    assert names.count("watch_back") == 1
    assert "pod_created" not in names[:before], "it was not listed again as something new"


async def test_a_server_without_its_store_is_no_data(rig: KubeRig, probe: Any) -> None:
    """Its watches stand and are silent, and its cache would answer for ever."""
    rig.signal("etcd", signal.SIGSTOP)
    await becomes(probe, Code.ERROR, within_s=STALE_S + 3)
    rig.wake()
    await becomes(probe, Code.OK)


async def test_a_server_that_was_killed_has_forgotten_and_is_listed_again(
    rig: KubeRig, probe: Any, plane: Any, kubectl: Kubectl
) -> None:
    for number in range(3):  # the store goes on, and no event of these pods
        kubectl("create", "configmap", f"of-{number}", "--from-literal=a=b")
    plane.members["kube-apiserver"].process.kill()
    await becomes(probe, Code.ERROR, within_s=STALE_S + 1)
    await asyncio.to_thread(plane.members["kube-apiserver"].process.wait)
    plane._run("kube-apiserver", plane._api_flags())
    await becomes(probe, Code.OK)
    assert "watch_back" in [row["mark"] for row in probe.marks]
    assert probe.expired == 1, "410 Gone: the server knows only what came after its start"
    await asyncio.to_thread(kubectl, "delete", "pods", "-l", f"app={NAME}", "--wait=false")
    await becomes(probe, Code.BAD, within_s=5)
    await becomes(probe, Code.OK)
    kubectl("delete", "configmap", "of-0", "of-1", "of-2")


async def test_what_rbac_refuses_is_said_in_one_line(
    rig: KubeRig, plane: Any, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig("nobody")))
    with pytest.raises(RefusedError, match='User "nobody" cannot list resource "pods"') as refused:
        await build("kube", rig.spec, lambda _: False).open()
    assert "\n" not in str(refused.value)
    kubectl("create", "role", "lists", "--verb=list", "--resource=pods")
    kubectl("create", "rolebinding", "lists", "--role=lists", "--user=nobody")
    try:
        end = time.monotonic() + 20
        while "cannot list" in str(refused.value):  # until the role is known
            assert time.monotonic() < end
            with pytest.raises(RefusedError) as refused:
                await build("kube", rig.spec, lambda _: False).open()
        assert 'cannot watch resource "pods"' in str(refused.value)
    finally:
        kubectl("delete", "role,rolebinding", "lists")


async def test_a_selector_that_kubernetes_cannot_read_is_refused_in_its_words(rig: KubeRig) -> None:
    with pytest.raises(RefusedError, match="unable to parse requirement"):
        await build("kube", rig.spec | {"selector": "app in (", "ready_min": 1}, lambda _: False).open()


async def test_ready_is_a_phase_of_a_recovery(rig: KubeRig, kubectl: Kubectl) -> None:
    """Through the engine, as a controller asks."""
    spec = await rig.up()
    engine = ProbeEngine(sink=lambda *_: None)
    try:
        assert await engine.ask("kube", spec) is Code.OK
        await engine.start("run", "api", "kube", spec, interval_ms=20, stable_s=1.0)
        await asyncio.sleep(1.0)
        lo_ns = time.monotonic_ns()
        await asyncio.to_thread(kubectl, "delete", "pods", "-l", f"app={NAME}", "--wait=false")
        hi_ns = time.monotonic_ns()
        found = await engine.recovery("run", "api", injected_lo_ns=lo_ns, injected_hi_ns=hi_ns, wait_s=60)
        told = engine.marks("run", "api")
    finally:
        await engine.close()
    assert found["recovered"]
    assert len(found["outages"]) >= 1
    assert told["overflow"] == 0
    order = ["not_ready", "pod_scheduled", "ready"]
    entry = phasing.steps(told["marks"], lo_ns, hi_ns, order, found | {"probe": "api", "agent_id": "a"})
    assert [step["name"] for step in entry["steps"]] == [*order, "client"]
    assert not entry["missing"]
    assert "by the API server" in next(step["text"] for step in entry["steps"] if step["name"] == "ready")


async def test_a_right_that_is_withdrawn_is_no_data(
    rig: KubeRig, plane: Any, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = await rig.up()
    kubectl("create", "role", "sees", "--verb=list,watch", "--resource=pods")
    kubectl("create", "rolebinding", "sees", "--role=sees", "--user=seer")
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig("seer")))
    probe = build("kube", spec, lambda _: False)
    try:
        for _ in range(20):  # until the role is known
            try:
                await probe.open()
                break
            except RefusedError:
                await asyncio.sleep(0.2)
        await becomes(probe, Code.OK)
    finally:
        kubectl("delete", "role,rolebinding", "sees")
    await becomes(probe, Code.ERROR, within_s=10)
    assert "cannot list" in probe.marks[-1]["text"]
    await probe.close()


async def test_a_killed_helper_is_no_data_until_the_next_one_sees(rig: KubeRig, probe: Any, kubectl: Kubectl) -> None:
    pid = probe.helper_pid
    os.kill(pid, signal.SIGKILL)
    await becomes(probe, Code.ERROR, within_s=1)
    await asyncio.to_thread(rig.scale, 0)
    await becomes(probe, Code.BAD)
    assert probe.helper_pid not in (None, pid)
    assert not psutil.pid_exists(pid)
    rows = {row["mark"]: row for row in probe.marks}
    assert rows["not_ready"]["lo_ns"] < rows["watch_lost"]["hi_ns"], "it may have been any time since"


async def test_a_watch_that_is_dropped_without_a_word_is_opened_anew(
    needs_nft: None, rig: KubeRig, probe: Any, kubectl: Kubectl
) -> None:
    """Its connection alone: what the server is asked beside it is answered."""
    if os.environ.get("BLACKSTART_NO_NETNS") == "1":
        pytest.skip("BLACKSTART_NO_NETNS=1 is set: this would be the machine's own network")
    held = psutil.Process(probe.helper_pid).net_connections("tcp")
    port = min(held, key=lambda one: one.fd).laddr.port  # the list opened it, and the watch took it over
    nft(
        "add table inet dropped\nadd chain inet dropped c { type filter hook output priority 0; }\n"
        f"add rule inet dropped c tcp sport {port} drop\nadd rule inet dropped c tcp dport {port} drop\n"
    )
    began_s, asked_ns = time.monotonic(), time.monotonic_ns()
    try:
        await asyncio.to_thread(rig.scale, 0)
        assert await probe.attempt(1) is Code.OK, "the documented gap"
        await becomes(probe, Code.BAD, within_s=15)
        print(f"noticed after {time.monotonic() - began_s:.1f} s")
    finally:
        nft("delete table inet dropped")
    rows = {row["mark"]: row for row in probe.marks}
    assert "watch broke off" in rows["watch_lost"]["text"]
    bad = rows["not_ready"]
    assert asked_ns <= bad["hi_ns"]
    assert bad["lo_ns"] < rows["watch_lost"]["lo_ns"], "what was answered beside it bounds nothing that it already knew"


async def test_a_helper_that_hangs_is_no_data(probe: Any) -> None:
    psutil.Process(probe.helper_pid).suspend()
    await becomes(probe, Code.ERROR, within_s=STALE_S + 1)
    assert "was not known to be up to date" in probe.marks[-1]["text"]
    psutil.Process(probe.helper_pid).resume()
    await becomes(probe, Code.OK, within_s=10)


def nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


async def test_the_agent_stays_light_and_its_helper_dies_with_it(rig: KubeRig) -> None:
    command = [sys.executable, "-c", AGENT, json.dumps(await rig.up())]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as agent:  # noqa: ASYNC220 its output is awaited
        try:
            assert agent.stdout is not None
            told = json.loads(await asyncio.to_thread(agent.stdout.readline))
            assert not {"kubernetes", "urllib3"} & set(told["modules"])
            helper = psutil.Process(told["pid"])
            assert "agent.probes.kube_watch" in helper.cmdline()
        finally:
            agent.kill()
    helper.wait(5)
