"""The deployment against a real API server: it takes every overlay, makes the pods, and refuses what no role may do."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from blackstart.local.cluster.node import LABEL, fake_nodes
from tests.cluster import rights
from tests.cluster.conftest import Kubectl

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = ["base", *sorted(path.name for path in (ROOT / "overlays").iterdir())]
CRDS = {  # of others, in the overlays; their schema is not ours, so here any content is taken
    "monitoring.coreos.com": ("v1", [("ServiceMonitor", "servicemonitors")]),
    "cert-manager.io": ("v1", [("Issuer", "issuers"), ("Certificate", "certificates")]),
}
UNTIL_S = 60


def folder(overlay: str) -> Path:
    return ROOT / overlay if overlay == "base" else ROOT / "overlays" / overlay


def crd(group: str, version: str, kind: str, plural: str) -> dict:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "versions": [served],
                 "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def installed(programs, plane, tmp_path_factory):
    """The base by `blackstart up --kubernetes`, on played nodes whose taint is tolerated; the state directory."""
    kubectl = Kubectl(programs["kubectl"], plane.admin)
    fake_nodes(programs["kubectl"], plane.admin, 2)
    place = tmp_path_factory.mktemp("overlay")
    toleration = [{"key": LABEL, "operator": "Exists"}]
    patch = [{"op": "add", "path": "/spec/template/spec/tolerations", "value": toleration}]
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [os.path.relpath(ROOT / "base", place)],
        "patches": [{"target": {"kind": kind}, "patch": json.dumps(patch)} for kind in ("DaemonSet", "Deployment")],
    }  # fmt: skip
    (place / "kustomization.yaml").write_text(yaml.safe_dump(document))
    volume = {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "controller"},
        "spec": {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"},
                 "storageClassName": ""},
    }  # fmt: skip
    kubectl("create", "-f", "-", document=volume)
    state = tmp_path_factory.mktemp("state")
    done = up(programs, plane, "--overlay", str(place), "--state", str(state), "--wait-s", "120")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ready: 1 controller, 2 agents" in done.stdout
    return state


def up(programs, plane, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{programs['kubectl'].parent}:{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "blackstart.cli", "up", "--kubernetes", *options], check=False, capture_output=True,
        text=True, timeout=200, env=os.environ | {"PATH": path, "KUBECONFIG": str(plane.admin)} | environment,
    )  # fmt: skip


def attempt(plane, token: str, method: str, path: str) -> tuple[int, str]:
    """Status and body of one request with *token*, over TLS that trusts the cluster's authority."""
    kinds = {"PATCH": "application/merge-patch+json", "POST": "application/json"}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kinds.get(method, "application/json")}
    content = None if method in {"GET", "DELETE"} else b"{}"
    request = urllib.request.Request(plane.server + path, content, headers, method=method)
    context = ssl.create_default_context(cafile=str(plane.authority.pair.cert))
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")


def judge(plane, kubectl, attempts) -> list[str]:
    """The attempts that did not end as they should; 403 with RBAC's own words, and nothing else, is a refusal."""
    tokens = {}
    for name in {row.account for row in attempts}:
        namespace, account = name.split("/")
        tokens[name] = kubectl("-n", namespace, "create", "token", account).strip()
    wrong = []
    for row in attempts:
        status, body = attempt(plane, tokens[row.account], *row.request)
        namespace, account = row.account.split("/")
        unknown = status == 404 and ("could not find the requested resource" in body or "page not found" in body)
        refused = status == 403 and f'User \\"system:serviceaccount:{namespace}:{account}\\" cannot' in body
        if refused == row.allowed or unknown or status in {401, 405}:
            wrong.append(f"{row}: {'allowed' if row.allowed else 'refused'} was expected, status {status} {body[:150]}")
    return wrong


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_server_takes_every_overlay(plane, kubectl, installed, overlay):
    del installed
    for group, (version, kinds) in CRDS.items():
        for kind, plural in kinds:
            kubectl("apply", "-f", "-", document=crd(group, version, kind, plural))
            kubectl("wait", "--for=condition=Established", f"crd/{plural}.{group}", "--timeout=30s")
    rendered = kubectl("kustomize", str(folder(overlay)))
    assert "image: blackstart-" not in rendered, "an image without a registry"
    out = kubectl(
        "apply",
        "--server-side",
        "--field-manager=blackstart",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-k",
        str(folder(overlay)),
    )
    assert len(out.splitlines()) >= 28
    assert all(line.endswith("(server dry run)") for line in out.splitlines())


def test_a_manifest_that_is_wrong_is_not_taken(kubectl, installed, tmp_path):
    """So that the test above can fail."""
    del installed
    patch = '[{"op": "add", "path": "/spec/template/spec/hostPid", "value": true}]'
    document = {"resources": [os.path.relpath(ROOT / "base", tmp_path)],
                "patches": [{"target": {"kind": "DaemonSet"}, "patch": patch}]}  # fmt: skip
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(document))
    done = kubectl.try_(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-k", str(tmp_path)
    )
    assert done.returncode != 0
    assert "hostPid" in done.stderr


def test_the_restricted_agent_passes_pod_security_and_the_base_s_would_not(kubectl, installed):
    del installed

    def as_pod(overlay: str) -> subprocess.CompletedProcess[str]:
        rendered = yaml.safe_load_all(kubectl("kustomize", str(folder(overlay))))
        (daemon,) = [one for one in rendered if one and one["kind"] == "DaemonSet"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried", "namespace": "tight"},
               "spec": daemon["spec"]["template"]["spec"] | {"serviceAccountName": "default"}}  # fmt: skip
        pod["spec"].pop("priorityClassName", None)
        return kubectl.try_("create", "--dry-run=server", "-f", "-", document=pod)

    kubectl("create", "namespace", "tight")
    kubectl("label", "namespace", "tight", "pod-security.kubernetes.io/enforce=restricted")
    wait_for(lambda: kubectl.try_("-n", "tight", "get", "serviceaccount", "default").returncode == 0)
    taken, refused = as_pod("restricted"), as_pod("base")
    assert taken.returncode == 0, taken.stderr
    assert "violates PodSecurity" in refused.stderr
    for what in ("hostNetwork", "hostPID", "unrestricted capabilities", "hostPath"):
        assert what in refused.stderr


def test_every_role_is_held_to_what_it_may(plane, kubectl, installed):
    del installed
    kubectl("create", "namespace", "other")
    attempts = [*rights.ATTEMPTS, *rights.FAULTS_REFUSED]
    assert len({(str(one), one.namespace) for one in attempts}) == len(attempts), "no attempt twice"
    assert sum(one.allowed for one in attempts) > 30
    assert sum(not one.allowed for one in attempts) > 300
    assert judge(plane, kubectl, attempts) == []


def test_faults_through_the_api_are_bound_by_the_namespace(plane, kubectl, installed):
    del installed
    bindings = ROOT / "components" / "cluster-faults"
    kubectl("apply", "-f", str(bindings / "nodes.yaml"), "-f", str(bindings / "target.yaml"))
    try:
        wait_for(lambda: judge(plane, kubectl, rights.FAULTS_BOUND[:1]) == [])
        assert judge(plane, kubectl, rights.FAULTS_BOUND) == []
    finally:
        kubectl("delete", "-f", str(bindings / "nodes.yaml"), "-f", str(bindings / "target.yaml"))
    wait_for(lambda: judge(plane, kubectl, rights.FAULTS_REFUSED[:1]) == [])
    wrong = judge(plane, kubectl, rights.FAULTS_BOUND)
    assert len(wrong) == sum(one.allowed for one in rights.FAULTS_BOUND), (
        "without the binding the same list is found wrong"
    )


def test_the_proof_of_a_quota_is_a_right_of_its_own(plane, kubectl, installed):
    del installed
    binding = str(ROOT / "components" / "quota-proof" / "target.yaml")
    assert judge(plane, kubectl, [rights.PROOF_BOUND]) != []
    kubectl("apply", "-f", binding)
    try:
        wait_for(lambda: judge(plane, kubectl, [rights.PROOF_BOUND]) == [])
    finally:
        kubectl("delete", "-f", binding)
    wait_for(lambda: judge(plane, kubectl, [rights.PROOF_BOUND]) != [])


def wait_for(check) -> None:
    end = time.monotonic() + UNTIL_S
    while not check():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_the_document_shows_the_list_and_the_capabilities_that_are_there():
    document = (ROOT.parents[1] / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    assert rights.table() in document, "python -m tests.cluster.rights prints what it must say"
    rows = [*rights.ATTEMPTS, *rights.FAULTS_REFUSED, *rights.FAULTS_BOUND]
    assert f"{len(rows)} attempts, of which" in document
    daemon = yaml.safe_load((ROOT / "agent" / "daemonset.yaml").read_text(encoding="utf-8"))
    added = daemon["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]["add"]
    assert re.findall(r"^\| `([A-Z_]+)` \|", document, re.MULTILINE) == added
