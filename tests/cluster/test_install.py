"""`blackstart up --kubernetes` where it cannot do its work, or is told to stop: one clear error, and nothing unsaid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blackstart.install import apply, authority
from tests.cluster.conftest import Kubectl

pytestmark = pytest.mark.timeout(180)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "blackstart.cli", "up", "--kubernetes", *options]


@pytest.fixture
def environment(programs, plane, tmp_path):
    path = f"{programs['kubectl'].parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "KUBECONFIG": str(plane.admin), "XDG_STATE_HOME": str(tmp_path / "home")}


def run(environment, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options), check=False, capture_output=True, text=True, timeout=150, env=environment | more
    )


def test_a_dry_run_changes_nothing_there_and_nothing_here(environment, kubectl, tmp_path):
    before = kubectl("get", "namespaces,clusterroles,clusterrolebindings", "-o", "name")
    done = run(environment, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would apply Deployment blackstart/blackstart-controller (checked in namespace default" in done.stdout
    assert "the API server takes all 29 objects; nothing was changed" in done.stdout
    assert kubectl("get", "namespaces,clusterroles,clusterrolebindings", "-o", "name") == before
    assert kubectl.json("-n", "default", "get", "deployments,configmaps")["items"][1:] == [], "kube-root-ca.crt alone"
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("options", "more", "code", "why"),
    [
        ([], {"PATH": "/nonexistent"}, 2, "kubectl is not on the PATH"),
        ([], {"KUBECONFIG": "/nonexistent"}, 5, "no cluster: The connection to the server localhost:8080 was refused"),
        (["--overlay", "nope"], {}, 2, "no overlay 'nope': one of base, all-faults, cert-manager"),
        (["--overlay", "monitoring"], {}, 2, "the cluster lacks what the overlay needs: resource mapping not found"),
        (["--farm"], {}, 2, "--listen and --farm are of an installation on this machine"),
    ],
    ids=["no kubectl", "no cluster", "no such overlay", "no CRD", "options of the local one"],
)
def test_what_is_missing_is_one_error(environment, kubectl, options, more, code, why):
    done = run(environment, *options, **more)
    assert (done.returncode, why in done.stderr) == (code, True), done.stderr
    assert "blackstart" not in kubectl("get", "namespaces", "-o", "name")


def test_who_may_not_is_told_so(environment, plane, kubectl):
    done = run(environment, KUBECONFIG=str(plane.kubeconfig("nobody")))
    assert done.returncode == 2, done.stderr
    assert 'the cluster denies it: Error from server (Forbidden): namespaces is forbidden: User "nobody"' in done.stderr
    assert "ask for the rights of a cluster administrator" in done.stderr
    assert "blackstart" not in kubectl("get", "namespaces", "-o", "name")


@pytest.fixture
def cleared(kubectl):
    """What was installed is gone afterwards: other tests look for it in vain."""
    yield
    kubectl("delete", "-k", str(apply.ROOT / "base"), "--ignore-not-found", "--timeout=50s")


def test_ctrl_c_stops_waiting_and_says_what_stays_then_a_late_rollout_says_why(
    environment, programs, plane, tmp_path, cleared
):
    """There is no node: nothing can become ready."""
    kubectl = Kubectl(programs["kubectl"], plane.admin)
    state = tmp_path / "state"
    with subprocess.Popen(
        command("--state", str(state)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "blackstart-controller 0 of 1" in line:
                break
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 3
    assert "no longer waiting. What was applied stays; `blackstart stop --all` and then `kubectl delete -k" in out
    late = run(environment, "--state", str(state), "--wait-s", "3")
    assert late.returncode == 3
    assert "not ready after 3 s: blackstart-controller 0 of 1" in late.stderr
    assert "pod blackstart-controller-" in late.stderr, "and why"
    held = json.loads(kubectl("-n", "blackstart-agents", "get", "configmap", "blackstart-join", "-o", "json"))
    join = json.loads(held["data"]["join.json"])
    assert join["ca_pem"] == (state / "pki/ca/ca.pem").read_text()
    assert (state / "admin/cert.pem").exists()
    other = run(environment, "--state", str(tmp_path / "other"), "--wait-s", "0")
    assert other.returncode == 0, "who has no state gets an administrator's certificate by the cluster's authority"
    assert (tmp_path / "other/admin/ca.pem").read_text() == join["ca_pem"]
    assert not (tmp_path / "other/pki").exists(), "its key does not stay"
    foreign = tmp_path / "foreign"
    subprocess.run(
        [sys.executable, "-m", "controller.certs_cli", "init", str(foreign)], check=True, capture_output=True
    )
    refused = run(environment, "--state", str(foreign))
    assert (refused.returncode, "the cluster has another authority" in refused.stderr) == (2, True), refused.stderr


def test_what_the_owner_has_edited_stays_until_it_is_told_to_be_replaced(environment, kubectl, tmp_path, cleared):
    options = ("--state", str(tmp_path / "state"), "--wait-s", "0")
    assert run(environment, *options).returncode == 0
    settings = ("-n", "blackstart", "configmap", "blackstart-controller")
    shipped = kubectl.json("get", *settings)["data"]
    edit = json.dumps({"data": {"controller.yaml": shipped["controller.yaml"] + "# frozen: mine\n"}})
    kubectl("patch", *settings, "--type=merge", "-p", edit)
    again = run(environment, *options)
    assert again.returncode == 0, again.stderr
    kept = [line for line in again.stdout.splitlines() if "kept as its owner has edited it" in line]
    assert [line.partition(": ")[2] for line in kept] == ["ConfigMap blackstart/blackstart-controller"]
    assert "# frozen: mine" in kubectl.json("get", *settings)["data"]["controller.yaml"]
    replaced = run(environment, *options, "--replace")
    assert (replaced.returncode, "kept as" in replaced.stdout) == (0, False), replaced.stderr
    assert kubectl.json("get", *settings)["data"] == shipped
    assert "kept as" not in run(environment, *options).stdout


def test_what_the_join_file_says_agrees_with_the_manifests():
    """One address, in three places: the settings, the agents' arguments, and the join file."""
    join = json.loads(authority.join("x")["data"]["join.json"])
    text = {path.name: path.read_text() for path in Path(apply.ROOT).rglob("*.yaml")}
    assert f'"{join["address"]}"' in text["daemonset.yaml"]
    assert join["address"].partition(":")[0] in text["controller.yaml"]
    assert str(Path(join["token_file"]).parent) in text["daemonset.yaml"]
