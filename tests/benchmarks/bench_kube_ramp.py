"""Pods from order to Ready: the ramp's own client beside `kubectl create -f` of one list, on the same control plane.

The nodes are played (KWOK). Pairs are interleaved, since the machine's other load is not ours to choose.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from agent.workloads.kube_ramp import Limits, RampWorkload
from agent.workloads.ramp.objects import Objects
from agent.workloads.ramp.spec import RAMP, parse
from blackstart.local.cluster import build
from blackstart.local.cluster.node import LABEL, fake_nodes
from blackstart.local.cluster.plane import Plane

PODS, PAIRS = 300, 3
SPEC = {
    "from": 0,
    "to": PODS,
    "shape": "burst",
    "down": False,
    "namespace": "bench",
    "timeout_s": 240,
    "removal_s": 100,
}


def cpu_s(plane: Plane) -> float:
    """Of the control plane's processes."""
    times = [psutil.Process(member.process.pid).cpu_times() for member in plane.members.values()]
    return sum(one.user + one.system for one in times)


def children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def by_kubectl(kubectl: list[str]) -> tuple[float, float]:
    """Wall time until the last pod is Ready, and the tool's own processor time for the creation."""
    objects = Objects(parse(SPEC), "bench-rival", "")
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"rival-{at}", "labels": objects.labels},
         "spec": objects.pod_spec()}
        for at in range(PODS)
    ]  # fmt: skip
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}).encode()
    begun, before = time.monotonic(), children_s()
    subprocess.run([*kubectl, "-n", "bench", "create", "-f", "-"], input=document, check=True, capture_output=True)
    own_s = children_s() - before
    chosen = ["-n", "bench", "-l", f"{RAMP}=bench-rival"]
    running = [*kubectl, *chosen, "get", "pods", "--field-selector=status.phase=Running", "-o", "name"]
    while len(subprocess.run(running, check=True, capture_output=True).stdout.split()) < PODS:
        time.sleep(0.1)  # KWOK makes them Running and Ready by one request; `kubectl wait` asks for each by itself
    took = time.monotonic() - begun
    subprocess.run(
        [*kubectl, *chosen, "delete", "pods", "--grace-period=0", "--force"], check=True, capture_output=True
    )
    return took, own_s


def by_ramp(folder: Path) -> tuple[float, float, str]:
    """The same of a ramp: its process does more, since it watches and measures."""
    before = children_s()
    done = asyncio.run(
        RampWorkload(folder, lambda: Limits(["bench"], PODS), lambda _run, _text: None).run("bench", SPEC)
    )
    (stage,) = done.detail["stages"]
    return stage["took_s"], children_s() - before, stage["limiter"]["name"]


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_ramp_beside_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if told := build.missing():
        pytest.skip(told)
    programs = build.programs()
    with Plane(programs, tmp_path / "plane") as plane:
        monkeypatch.setenv("KUBECONFIG", str(plane.admin))
        fake_nodes(programs["kubectl"], plane.admin, 4)
        kubectl = [str(programs["kubectl"]), f"--kubeconfig={plane.admin}"]
        subprocess.run([*kubectl, "wait", "--for=condition=Ready", "nodes", "-l", f"{LABEL}=true"], check=True,
                       capture_output=True)  # fmt: skip
        subprocess.run([*kubectl, "create", "namespace", "bench"], check=True, capture_output=True)
        while subprocess.run(
            [*kubectl, "-n", "bench", "get", "sa", "default"], check=False, capture_output=True
        ).returncode:
            time.sleep(0.1)  # without it pods are refused
        ratios = []
        print()
        for number in range(PAIRS):
            at = cpu_s(plane)
            rival_s, rival_cpu = by_kubectl(kubectl)
            between = cpu_s(plane)
            ramp_s, ramp_cpu, limiter = by_ramp(tmp_path / "ramps")
            ratios.append(ramp_s / rival_s)
            print(f"pair {number + 1}, {PODS} pods, played nodes, until all are Ready, load {os.getloadavg()[0]:.1f}:")
            print(f"  kubectl create -f {rival_s:.2f} s, its CPU {rival_cpu:.2f} s, control plane {between - at:.1f} s")
            print(f"  ramp {ramp_s:.2f} s, bound by {limiter}, its CPU with measuring and removal {ramp_cpu:.2f} s, "
                  f"control plane {cpu_s(plane) - between:.1f} s")  # fmt: skip
        spread = f"median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
        print(f"ramp over kubectl, wall: {spread}")
        assert not list((tmp_path / "ramps").iterdir())
