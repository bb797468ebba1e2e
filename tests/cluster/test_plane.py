"""The test cluster is a real control plane: authenticated, with RBAC, and it schedules; nothing outlives its owner."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from blackstart.local.cluster.node import LABEL, fake_nodes
from tests.cluster.conftest import Kubectl

pytestmark = pytest.mark.timeout(180)
READY_S = 60


def until(check, what: str):
    """What *check* returns once it is true."""
    end = time.monotonic() + READY_S
    while not (found := check()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return found


def deployment(name: str, replicas: int) -> dict:
    labels = {"app": name}
    pod = {
        "containers": [{"name": "main", "image": "nothing.invalid/none", "resources": {"requests": {"cpu": "100m"}}}],
        "tolerations": [{"key": LABEL, "operator": "Exists"}],
        "nodeSelector": {LABEL: "true"},
    }
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                 "template": {"metadata": {"labels": labels}, "spec": pod}},
    }  # fmt: skip


def test_its_version_is_its_own_and_strangers_are_refused(plane, kubectl, programs):
    assert kubectl.json("version")["serverVersion"]["gitVersion"].startswith("v1.34.")
    context = ssl.create_default_context(cafile=str(plane.authority.pair.cert))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{plane.server}/api/v1/pods", context=context, timeout=5)
    refused.value.close()
    assert refused.value.code == 403, "anonymous may see nothing"
    nobody = Kubectl(programs["kubectl"], plane.kubeconfig("nobody"))
    done = nobody.try_("get", "pods")
    assert done.returncode != 0
    assert 'User "nobody" cannot list resource "pods"' in done.stderr
    kubectl("create", "clusterrolebinding", "nobody-views", "--clusterrole=view", "--user=nobody")
    try:
        until(lambda: nobody.try_("get", "pods").returncode == 0, "the role is known")
        assert "forbidden" in nobody.try_("create", "namespace", "mine").stderr
    finally:
        kubectl("delete", "clusterrolebinding", "nobody-views")


def test_etcd_wants_a_certificate_of_ours(plane):
    port = plane.ports["etcd"]
    context = ssl.create_default_context(cafile=str(plane.authority.pair.cert))
    with pytest.raises((urllib.error.URLError, ssl.SSLError, OSError)):
        urllib.request.urlopen(f"https://127.0.0.1:{port}/health", context=context, timeout=5)


def test_pods_of_a_deployment_run_on_played_nodes_and_move_when_one_is_lost(plane, kubectl, programs):
    fake_nodes(programs["kubectl"], plane.admin, 2)
    try:
        kubectl("wait", "--for=condition=Ready", "nodes", "-l", f"{LABEL}=true", f"--timeout={READY_S}s")
        kubectl("create", "-f", "-", document=deployment("web", 4))
        kubectl("rollout", "status", "deployment/web", f"--timeout={READY_S}s")
        pods = kubectl.json("get", "pods", "-l", "app=web")["items"]
        assert {pod["spec"]["nodeName"] for pod in pods} == {"played-0", "played-1"}
        kubectl("cordon", "played-0")
        kubectl("delete", "pods", "-l", "app=web", "--field-selector=spec.nodeName=played-0", "--grace-period=0",
                "--force")  # fmt: skip
        kubectl("rollout", "status", "deployment/web", f"--timeout={READY_S}s")

        def moved():
            now = kubectl.json("get", "pods", "-l", "app=web", "--field-selector=status.phase=Running")["items"]
            return len(now) == 4 and {pod["spec"]["nodeName"] for pod in now} == {"played-1"}

        until(moved, "the pods are on the other node")
    finally:
        kubectl("delete", "deployment", "web", "--ignore-not-found")
        kubectl("delete", "nodes", "-l", f"{LABEL}=true")


def test_up_behind_then_down_leaves_no_process(programs, tmp_path):
    """As `make testcluster` and `make testcluster-down` do it."""
    del programs
    blackstart = [sys.executable, "-m", "blackstart.cli", "testcluster"]
    state = tmp_path / "state"

    def ours() -> list[int]:
        return [p.pid for p in psutil.process_iter(["cmdline"]) if str(state) in " ".join(p.info["cmdline"] or ())]

    done = subprocess.run(
        [*blackstart, "up", "--detach", "--state", str(state), "--nodes", "3"], capture_output=True, text=True,
        check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 nodes, played by KWOK" in done.stdout
    again = subprocess.run(
        [*blackstart, "up", "--state", str(state)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (again.returncode, "runs already" in again.stderr) == (2, True)
    assert len(ours()) >= 6
    down = subprocess.run(
        [*blackstart, "down", "--state", str(state)], capture_output=True, text=True, check=False, timeout=90
    )
    assert down.returncode == 0, down.stderr
    end = time.monotonic() + READY_S
    while left := ours():
        assert time.monotonic() < end, left
        time.sleep(0.1)
    assert not (Path(state) / "cluster.json").exists()


def test_it_dies_with_its_owner(programs, tmp_path):
    """SIGKILL of the process that runs it: the kernel ends the rest."""
    del programs
    state = tmp_path / "state"
    command = [sys.executable, "-m", "blackstart.cli", "testcluster", "up", "--state", str(state)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as owner:
        try:
            until((state / "cluster.json").exists, "it serves")
            children = psutil.Process(owner.pid).children(recursive=True)
            assert len(children) >= 5
        finally:
            os.kill(owner.pid, 9)
    until(lambda: all(not one.is_running() or one.status() == "zombie" for one in children), "all have ended")
