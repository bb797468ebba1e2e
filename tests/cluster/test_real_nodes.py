"""Real nodes: pods that run and serve, faults on them, and nothing left of them afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blackstart.local.cluster import bed as cluster_bed
from blackstart.local.cluster import cgroup
from blackstart.local.services import ServiceBed
from tests.integration.service_rig import run, services_up

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def bed(tmp_path: Path, testbed_factory: Any) -> Iterator[ServiceBed]:
    with services_up("kubernetes", tmp_path, testbed_factory) as made:
        yield made
    left = [str(path) for path in cgroup.ROOT.glob(f"*/{cgroup.PREFIX}*") if _is_ours(path)]
    assert left == [], "control groups of nodes that are gone"


def _is_ours(path: Path) -> bool:
    """Of this process, not of one beside it."""
    return path.name.startswith(f"{cgroup.PREFIX}{os.getpid()}-")


def kubectl(bed: ServiceBed, *arguments: str) -> str:
    environment = {**os.environ, **cluster_bed.environment(bed.state)}
    done = subprocess.run(
        ["kubectl", *arguments], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def pods(bed: ServiceBed) -> dict[str, str]:
    """The service's pods: name -> node."""
    items = json.loads(kubectl(bed, "get", "pods", "-n", "shop", "-l", "app=web", "-o", "json"))["items"]
    return {one["metadata"]["name"]: one["spec"]["nodeName"] for one in items}


def restarts(bed: ServiceBed) -> dict[str, int]:
    """Of each pod's containers, as the kubelets count them."""
    items = json.loads(kubectl(bed, "get", "pods", "-n", "shop", "-l", "app=web", "-o", "json"))["items"]
    return {one["metadata"]["name"]: sum(each["restartCount"] for each in one["status"]["containerStatuses"])
            for one in items}  # fmt: skip


def test_pods_serve_from_real_nodes_and_come_back_after_faults(bed):
    before = pods(bed)
    assert sorted(before.values()) == ["node-1", "node-2", "node-3"]
    ask = ["curl", "-s", "-m", "3", "http://node-2:30080/"]
    answers = {bed.host("client").run(ask).stdout.strip() for _ in range(30)}
    assert answers == set(before), "each pod answers through each node's port"

    code, answer = run(bed, "kube-pods-killed")
    assert code == 0, answer["run"]["reason"]
    rows = {row["probe"]: row["recovery"] for row in answer["document"]["recoveries"]}
    print(f"pods killed: {rows}")
    # A container outlives its deleted pod by up to two seconds: no client notices where the new pods are there by then.
    assert 0 <= rows["web"]["lo"] <= rows["web"]["hi"] < 30
    assert rows["pods"]["hi"] > 0.2, "Kubernetes says so in any case"
    assert rows["web"]["hi"] < 0.2 or rows["pods"]["lo"] < rows["web"]["hi"] + 1, "before it is served, or nearly"
    assert not set(pods(bed)) & set(before), "all pods are new"
    assert bed.ready(60)

    killed = pods(bed)
    code, answer = run(bed, "kube-containers-killed")
    assert code == 0, answer["run"]["reason"]
    rows = {row["probe"]: row["recovery"] for row in answer["document"]["recoveries"]}
    print(f"containers killed: {rows}")
    assert 0 < rows["web"]["hi"] < 30
    assert pods(bed) == killed, "the same pods, with their containers started anew"
    assert restarts(bed) == dict.fromkeys(killed, 1)
    assert bed.ready(60)

    code, answer = run(bed, "kube-pod-partitioned")
    assert code == 0, answer["run"]["reason"]
    (row,) = answer["document"]["recoveries"]
    assert 1 < row["recovery"]["hi"] < 15, "its readiness check fails three times, a second apart"
    assert bed.ready(60), "the pod answers again"

    code, answer = run(bed, "kube-kubelet-stopped")
    assert code == 0, answer["run"]["reason"]
    (row,) = answer["document"]["recoveries"]
    assert row["recovery"]["value"] == 0, "what serves needs no kubelet"


def test_a_node_that_lost_its_power_comes_back_with_its_pods(bed):
    bed.host("node-3").power_off()
    assert not bed.cluster.nodes.nodes["node-3"].members["kubelet"].running()
    bed.boot("node-3")
    assert bed.ready(90)
    ask = ["curl", "-s", "-m", "3", "http://node-3:30080/"]
    until = time.monotonic() + 60
    while bed.host("client").run(ask).stdout.strip() not in pods(bed):
        assert time.monotonic() < until, "the node's port answers again"
        time.sleep(0.2)
    assert "node-3" in pods(bed).values()
