"""Scale ramps against the real control plane: what is measured, who is named as the limiter, and that nothing stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from agent.workloads.kube_ramp import Limits, RampWorkload
from agent.workloads.ramp.spec import RAMP
from blackstart.local.cluster.node import LABEL, fake_nodes
from blackstart.local.cluster.plane import Plane, Settings
from protos.error import ProbeError, RefusedError
from tests.cluster.conftest import Kubectl

pytestmark = pytest.mark.timeout(180)
SPACE = "ramp-test"
BASE = {"namespace": SPACE, "timeout_s": 90, "removal_s": 40, "stall_s": 20}


class Rig:
    """A plane with played nodes, a user for ramps, and the workload as the agent has it."""

    def __init__(self, plane: Plane, programs: dict[str, Path], folder: Path) -> None:
        self.plane, self.folder, self.said = plane, folder, list[str]()
        self.kubectl = Kubectl(programs["kubectl"], plane.admin)
        self.workload = self.made()

    def made(self) -> RampWorkload:
        return RampWorkload(
            self.folder,
            lambda: Limits(["ramp-*", "kube-*"], 500, ["kube-system"]),
            lambda _run, text: self.said.append(text),
        )

    def spec(self, **more) -> dict:
        address = f"https://{self.plane._settings.address}"
        pages = {name: f"{address}:{self.plane.ports[name]}/metrics" for name in ("scheduler", "controllers")}
        pids = {name: member.process.pid for name, member in self.plane.members.items()}
        return BASE | {"metrics": pages, "processes": pids} | more

    def run(self, **more):
        return asyncio.run(self.workload.run("run-1", self.spec(**more)))

    def is_clean(self) -> bool:
        """Nothing in the cluster, no record, no process."""
        pods = self.kubectl.json("get", "pods,deployments,horizontalpodautoscalers", "-A", "-l", RAMP)["items"]
        space = self.kubectl.try_("get", "namespace", SPACE)
        return not pods and "NotFound" in space.stderr and not list(self.folder.iterdir()) and not helpers()


def helpers(what: str = "") -> list[int]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one of these
            if "agent.workloads.ramp" in (line := child.cmdline()) and (not what or what in line):
                found.append(child.pid)
    return found


def rig_of(
    plane: Plane, programs: dict[str, Path], folder: Path, monkeypatch: pytest.MonkeyPatch, nodes: int = 3
) -> Rig:
    made = Rig(plane, programs, folder)
    if not made.kubectl.json("get", "nodes")["items"]:
        fake_nodes(programs["kubectl"], plane.admin, 3, gpus=8)
        made.kubectl("create", "clusterrolebinding", "ramps", "--clusterrole=cluster-admin", "--user=ramp")
        made.kubectl("wait", "--for=condition=Ready", "nodes", "-l", f"{LABEL}=true", "--timeout=60s")
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig("ramp")))  # an ordinary user: no flow schema exempts it
    return made


@pytest.fixture
def rig(plane, programs, tmp_path, monkeypatch):
    return rig_of(plane, programs, tmp_path / "ramps", monkeypatch)


def figure(done, name: str) -> float:
    return next(one.value for one in done.figures if one.name == name)


def limiters(done) -> list[str]:
    return [one["limiter"]["name"] for one in done.detail["stages"] if one["way"] == "up" and one["from"]]


def test_up_and_down_again_with_figures_of_each_stage(rig):
    done = rig.run(**{"from": 10, "to": 200, "stages": 3, "shape": "exponential"})
    ways = [(one["way"], one["from"], one["to"]) for one in done.detail["stages"]]
    assert ways == [("up", 0, 10), ("up", 10, 27), ("up", 27, 74), ("up", 74, 200),
                    ("down", 200, 74), ("down", 74, 27), ("down", 27, 10)]  # fmt: skip
    for one in done.detail["stages"]:
        assert {rate["n"] for rate in one["rates"].values()} == {abs(one["to"] - one["from"])}
        assert all(rate["mean"] > 0 for rate in one["rates"].values())
    seen = done.detail["latency"]["create_to_ready"]
    assert seen["watch_s"]["n"] == seen["api_s"]["n"] == 190
    assert abs(seen["watch_s"]["p50"] - seen["api_s"]["p50"]) <= 1.5, "both clocks tell of the same pods"
    assert done.detail["slo"]["mutating"]["n"] >= 600, "each pod is made, bound and played"
    assert figure(done, "pods requested of allocatable") == pytest.approx(200 / 330)
    assert figure(done, "cpu requested of allocatable") == pytest.approx(20 / 96)
    assert figure(done, "kube-apiserver resident memory") > 50
    assert {one["result"] for one in done.detail["objectives"]} <= {"met", "missed", "inconclusive"}
    assert all("played" in one.provenance.method for one in done.figures if "Ready" in one.name)
    assert done.detail["unasked"] == {}
    assert done.detail["watch"]["gaps"] == 0
    assert rig.is_clean()


def test_a_clients_own_rate_is_named(rig):
    done = rig.run(**{"from": 10, "to": 90, "shape": "burst", "qps": 20, "down": False})
    assert limiters(done) == ["client QPS"], done.summary
    assert figure(done, "up 10 to 90: create") == pytest.approx(20, rel=0.15)


def test_gangs_that_do_not_fit_hold_gpus_that_nobody_uses(rig):
    """24 GPUs, gangs of five with one each: four run, the fifth waits for the one that is missing."""
    done = rig.run(**{"from": 0, "to": 30, "shape": "burst", "gpus": 1, "gang": 5, "stall_s": 4, "down": False})
    gangs = done.detail["top"]["gangs"]
    assert done.detail["top"]["scheduled"] == 24
    assert gangs["gpus_wasted_at_end"] == 24 - 5 * gangs["whole"] > 0
    assert gangs["idle_gpu_s"] > 4, "as long as the stage waited in vain, at least"
    assert limiters(done) == [] or limiters(done) == ["no room on the nodes"]
    assert [one["limiter"]["name"] for one in done.detail["stages"]] == ["no room on the nodes"], done.summary
    assert next(one for one in done.detail["objectives"] if one["name"] == "pod ramp")["result"] == "missed"
    assert rig.is_clean()


@pytest.fixture(scope="module")
def slow_clients(programs, tmp_path_factory):
    flags = {"kube-scheduler": ("--kube-api-qps=8", "--kube-api-burst=8"),
             "kube-controller-manager": ("--kube-api-qps=3", "--kube-api-burst=3")}  # fmt: skip
    with Plane(programs, tmp_path_factory.mktemp("slow"), Settings(extra=flags)) as made:
        kubectl = Kubectl(programs["kubectl"], made.admin)
        kubectl("create", "namespace", "first")  # whose account comes once they are through with what a start brings
        kubectl("wait", "--for=create", "serviceaccount/default", "-n", "first", "--timeout=59s")
        yield made


def test_controllers_that_may_ask_too_little_are_named(slow_clients, programs, tmp_path, monkeypatch):
    rig = rig_of(slow_clients, programs, tmp_path / "ramps", monkeypatch)
    done = rig.run(**{"from": 5, "to": 35, "shape": "burst", "mode": "deployment"})
    assert limiters(done) == ["client QPS of the controllers"], done.summary
    assert [one["to"] for one in done.detail["stages"]] == [5, 35, 5]
    assert rig.is_clean()


def test_a_scheduler_that_may_ask_too_little_is_named(slow_clients, programs, tmp_path, monkeypatch):
    rig = rig_of(slow_clients, programs, tmp_path / "ramps", monkeypatch)
    done = rig.run(**{"from": 5, "to": 60, "shape": "burst", "down": False})
    assert limiters(done) == ["client QPS of the scheduler"], done.summary
    assert figure(done, "up 5 to 60: schedule") < 10


@pytest.fixture(scope="module")
def narrow_api(programs, tmp_path_factory):
    flags = {"kube-apiserver": ("--max-requests-inflight=4", "--max-mutating-requests-inflight=4")}
    with Plane(programs, tmp_path_factory.mktemp("narrow"), Settings(extra=flags)) as made:
        yield made


def test_an_api_server_that_serves_few_at_once_is_named(narrow_api, programs, tmp_path, monkeypatch):
    rig = rig_of(narrow_api, programs, tmp_path / "ramps", monkeypatch)
    done = rig.run(**{"from": 5, "to": 200, "shape": "burst", "down": False, "threads": 48})
    assert limiters(done) == ["API priority and fairness"], done.summary


async def begun(rig: Rig, workload: RampWorkload) -> asyncio.Task:
    """A ramp that is in the middle of it."""
    spec = rig.spec(**{"from": 10, "to": 300, "shape": "burst", "qps": 20})
    task = asyncio.get_running_loop().create_task(workload.run("run-2", spec))
    end = time.monotonic() + 60
    while len(rig.kubectl.json("get", "pods", "-A", "-l", RAMP)["items"]) < 30:
        assert time.monotonic() < end
        assert not task.done(), task.result()
        await asyncio.sleep(0.2)
    return task


def test_nothing_stays_when_its_process_is_killed(rig):
    async def drive() -> None:
        task = await begun(rig, rig.workload)
        os.kill(rig.workload._child.pid, signal.SIGKILL)
        with pytest.raises(ProbeError, match="ended with status -9"):
            await task

    asyncio.run(drive())
    assert rig.is_clean()


def test_nothing_stays_when_its_run_ends(rig):
    async def drive() -> None:
        task = await begun(rig, rig.workload)
        with pytest.raises(RefusedError, match="under way"):
            await rig.workload.run("run-3", rig.spec(to=20))
        await rig.workload.end("another run")
        assert not task.done()
        await rig.workload.end("run-2")
        assert rig.is_clean(), "once `end` has returned"
        with pytest.raises(ProbeError, match="ended before it was through"):
            await task

    asyncio.run(drive())


def test_one_that_is_ended_before_its_process_is_there_does_not_begin(rig):
    async def drive() -> None:
        spec = rig.spec(**{"from": 10, "to": 300, "shape": "burst", "qps": 20})
        task = asyncio.get_running_loop().create_task(rig.workload.run("run-5", spec))
        await asyncio.sleep(0)  # it is at the fork
        await asyncio.wait_for(rig.workload.end(), 5)
        with pytest.raises(ProbeError, match="before it began"):
            await task

    asyncio.run(drive())
    assert rig.is_clean()


def test_a_removal_is_not_to_be_ended(rig):
    async def drive() -> None:
        task = await begun(rig, rig.workload)
        os.kill(rig.workload._child.pid, signal.SIGKILL)
        while not helpers("sweep"):
            await asyncio.sleep(0.02)
        await rig.workload.end("run-2")
        assert rig.is_clean(), "once `end` has returned"
        with pytest.raises(ProbeError, match="ended with status -9"):
            await task

    asyncio.run(drive())


AGENT = """
import asyncio, json, sys
from pathlib import Path
from agent.workloads.kube_ramp import Limits, RampWorkload
workload = RampWorkload(Path(sys.argv[1]), lambda: Limits(["*"], 500), lambda run, text: None)
asyncio.run(workload.run("run-4", json.loads(sys.argv[2])))
"""


@pytest.mark.parametrize("both", [False, True])
def test_nothing_stays_when_the_agent_is_killed(rig, both):
    """Its process removes; where that is killed too, the agent's next start does."""
    import subprocess
    import sys

    spec = rig.spec(**{"from": 10, "to": 300, "shape": "burst", "qps": 20})
    with subprocess.Popen([sys.executable, "-c", AGENT, str(rig.folder), json.dumps(spec)]) as agent:
        end = time.monotonic() + 60
        while len(rig.kubectl.json("get", "pods", "-A", "-l", RAMP)["items"]) < 30:
            assert time.monotonic() < end
            time.sleep(0.2)
        children = [psutil.Process(pid) for pid in helpers()]
        victims = [agent.pid, *(child.pid for child in children if child.ppid() == agent.pid)]
        for pid in victims if both else victims[:1]:
            os.kill(pid, signal.SIGKILL)
    psutil.wait_procs(children, timeout=60)
    left = rig.kubectl.json("get", "pods", "-A", "-l", RAMP)["items"]
    assert bool(left) == both
    assert len(list(rig.folder.glob("*.json"))) == 1, "the record of it"
    asyncio.run(rig.made().recover())
    assert rig.is_clean()


def test_the_nodes_policy_says_where_and_how_many(rig):
    for more, told in (
        ({"namespace": "default"}, "does not allow ramps"),
        ({"namespace": "kube-system"}, "is protected"),
        ({"to": 501}, "more than"),
    ):
        with pytest.raises(RefusedError, match=told):
            rig.run(**more)
    assert not rig.folder.exists(), "before anything was made"
