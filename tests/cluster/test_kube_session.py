"""How an agent reaches a cluster: by a helper process, with errors that say who must act."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent.faults import registry
from agent.system import kube
from agent.system.kube_wire import KubeError, expect
from protos.error import FaultError, RefusedError, SpecError
from tests.chaos import kube_eye
from tests.cluster.fault_rig import planned, put

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("faulted")]
KILL = {"namespace": "default", "selector": "app=none"}
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def session() -> Iterator[kube.Session]:
    made = kube.Session()
    yield made
    made.close()


def helper_of(pid: int) -> psutil.Process | None:
    return next((one for one in psutil.Process(pid).children() if "agent.system.kube_helper" in one.cmdline()), None)


def test_one_helper_answers_many_requests_and_is_replaced_when_it_dies(session):
    answer = expect(session.request("GET", "/version"), "version")
    assert answer.body["gitVersion"].startswith("v1.34.")
    assert answer.lo_ns < answer.hi_ns < time.monotonic_ns()
    first = helper_of(os.getpid())
    session.request("GET", PODS)
    assert helper_of(os.getpid()) == first
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert session.request("GET", "/version").status == 200
    second = helper_of(os.getpid())
    assert second != first
    session.close()
    assert not second.is_running()


def test_one_that_hangs_is_killed_and_replaced(session, monkeypatch):
    session.request("GET", "/version")
    first = helper_of(os.getpid())
    first.suspend()
    monkeypatch.setattr(kube, "_ANSWER_S", 0.3)
    with pytest.raises(KubeError, match=r"no answer within 0\.3 s"):
        session.request("GET", "/version")
    assert not first.is_running()
    monkeypatch.setattr(kube, "_ANSWER_S", 12.0)
    assert session.request("GET", "/version").status == 200


def test_what_the_server_refuses_is_an_answer_with_its_own_words(session, kubectl):
    kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")  # before, no pod at all is looked at
    assert session.request("GET", f"{PODS}/none").status == 404
    with pytest.raises(KubeError, match='pods "none" not found') as refused:
        expect(session.request("GET", f"{PODS}/none"), "read")
    assert refused.value.status == 404
    assert session.request("POST", PODS, body={"nonsense": True}).status in (400, 422)


def test_who_may_not_is_told_so_by_the_cluster(plane, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig("agent-without-rights")))
    with pytest.raises(RefusedError, match=r"does not allow it: .*agent-without-rights.*cannot list resource .pods"):
        planned("pod.kill", KILL)


async def test_what_may_be_planned_and_not_done_is_told_so(plane, kubectl, monkeypatch):
    user = plane.kubeconfig("reader")
    kubectl("create", "clusterrole", "reads-nodes", "--verb=get,list", "--resource=nodes")
    kubectl("create", "clusterrolebinding", "reads-nodes", "--clusterrole=reads-nodes", "--user=reader")
    with kube_eye.eye() as one, kube_eye.node(one) as host:
        monkeypatch.setenv("KUBECONFIG", str(user))
        one.until(lambda: may_plan(host), "the role is known")
        fault, effect = planned("node.cordon", {"node": host})
        with pytest.raises(FaultError, match=r"cannot patch resource .nodes"):
            await put(fault, effect)
        assert not one.get(f"/api/v1/nodes/{host}")["spec"].get("unschedulable")
        await fault.revert(effect)
        assert fault.residue(effect) == []


def may_plan(host: str) -> bool:
    try:
        return bool(planned("node.cordon", {"node": host}))
    except RefusedError:
        return False


@pytest.mark.parametrize("broken", ["away", "no file", "nonsense", "empty"])
def test_a_cluster_that_cannot_be_reached_is_one_clear_error(broken, plane, tmp_path, monkeypatch):
    settings, path = json.loads(Path(plane.admin).read_text()), tmp_path / "kubeconfig"
    settings["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    if broken != "no file":
        path.write_text({"away": json.dumps(settings), "nonsense": "[", "empty": "{}"}[broken])
    monkeypatch.setenv("KUBECONFIG", str(path))
    said = {
        "away": "does not answer",
        "no file": "is not there",
        "nonsense": "cannot be used",
        "empty": "cannot be used",
    }
    with pytest.raises(SpecError, match=said[broken]) as refused:
        planned("pod.kill", KILL)
    assert len(refused.value.problems) == 1


def test_without_credentials_the_node_says_what_it_lacks(monkeypatch):
    monkeypatch.delenv("KUBECONFIG")
    with pytest.raises(SpecError, match="it lacks set KUBECONFIG in the agent's environment"):
        planned("pod.kill", KILL)


def test_the_agent_stays_light_and_its_helper_ends_with_it(tmp_path):
    """SIGKILL of a process that has asked: it has not imported the library, and its helper is gone."""
    code = (
        "import sys, time; from agent.system.kube import SESSION; SESSION.request('GET', '/version');"
        "print('kubernetes' in sys.modules, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path) as asking:
        assert asking.stdout.readline() == b"False\n"
        helper = helper_of(asking.pid)
        assert helper.is_running()
        asking.kill()
    helper_gone = time.monotonic() + 5
    while helper.is_running():
        assert time.monotonic() < helper_gone, "the helper outlives its agent"
        time.sleep(0.02)


async def test_a_holder_that_hangs_is_not_waited_for_longer(faulted):
    """SIGSTOP of the holder: the revert kills it, and gives back by itself."""
    with kube_eye.eye() as one, kube_eye.node(one) as host:
        fault, effect = planned("node.cordon", {"node": host})
        await put(fault, effect)
        os.kill(effect.facts["holder"]["pid"], signal.SIGSTOP)
        began = time.monotonic()
        await fault.revert(effect)
        assert time.monotonic() - began < 5
        assert not one.get(f"/api/v1/nodes/{host}")["spec"].get("unschedulable")
        assert fault.residue(effect) == []


async def test_a_plan_does_not_wait_for_the_helper_to_start(faulted):
    """The agent's loop goes on while the helper loads the library."""
    kube.SESSION.close()
    faults, longest = registry.all_faults(), 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    ticking = asyncio.create_task(tick())
    began = time.monotonic()
    await registry.warm(faults, "pod.kill")
    took_s = time.monotonic() - began
    ticking.cancel()
    assert longest < took_s / 2, f"the loop stood still for {longest:.2f} s of {took_s:.2f} s"
    await registry.warm(faults, "process.kill")
    await registry.warm(faults, "no such kind")
