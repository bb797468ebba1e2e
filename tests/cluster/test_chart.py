"""The chart, by the real helm: as it comes it is the kustomize base, and the API server takes each of its modes."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
import yaml

from blackstart.local.cluster import build

pytestmark = pytest.mark.timeout(180)
DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "blackstart"
VERSION = "1.34.0"


@pytest.fixture(scope="module")
def helm():
    if told := build.helm().missing():
        pytest.skip(f"helm: {told}")
    program = build.helm().build() / "helm"

    def run(*values: str) -> subprocess.CompletedProcess[str]:
        sets = [word for value in values for word in ("--set", value)]
        command = [str(program), "template", "blackstart", str(CHART), "--kube-version", VERSION, *sets]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    return run


def objects(text: str) -> dict[tuple[str, str, str], dict]:
    """By kind, namespace and name; lists without an order are sorted, and documents in ConfigMaps are read."""
    found = {}
    for one in filter(None, yaml.safe_load_all(text)):
        if one["kind"] == "DaemonSet":
            pod = one["spec"]["template"]["spec"]
            for some in (pod["volumes"], *(c["volumeMounts"] for c in (*pod["containers"], *pod["initContainers"]))):
                some.sort(key=lambda item: item["name"])
        if one["kind"] == "ConfigMap":
            one["data"] = {name: yaml.safe_load(content) for name, content in one["data"].items()}
        found[one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]] = one
    return found


def rendered(done: subprocess.CompletedProcess[str]) -> dict[tuple[str, str, str], dict]:
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


@pytest.mark.parametrize(
    ("overlay", "values"),
    [
        ("base", ()),
        ("overlays/gpu-nodes", ("agents.gpu.enabled=true",)),
        ("overlays/restricted", ("agents.mode=restricted",)),
        ("overlays/all-faults", ("agents.mode=all-faults",)),
        ("overlays/cluster-faults", ("clusterFaults.nodes=true", "clusterFaults.namespaces={default}")),
        (
            "overlays/quota-proof",
            ("clusterFaults.nodes=true", "clusterFaults.namespaces={default}", "clusterFaults.quotaProof={default}"),
        ),
        ("overlays/monitoring", ("serviceMonitor=true",)),
        ("overlays/cert-manager", ("authority.certManager=true",)),
        ("overlays/high-availability", ("controller.replicas=2", "controller.storeSecret=blackstart-store")),
    ],
)
def test_the_chart_is_the_overlay(helm, kubectl, overlay, values):
    ours = objects(kubectl("kustomize", str(DEPLOY / "kubernetes" / overlay)))
    theirs = rendered(helm(*values))
    assert set(ours) == set(theirs)
    for name, one in ours.items():
        assert theirs[name] == one, name


def test_one_controller_may_have_its_store_in_a_database_too(helm, kubectl):
    values = ("controller.storeSecret=mine", "controller.storePort=6432", "namespaces.controller=default")
    found = rendered(helm(*values, "namespaces.create=false"))
    assert ("PersistentVolumeClaim", "default", "blackstart-controller") not in found
    deployment = found["Deployment", "default", "blackstart-controller"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]["rollingUpdate"]["maxUnavailable"]) == (1, 1)
    environment = {one["name"]: one for one in deployment["template"]["spec"]["containers"][0]["env"]}
    assert environment["BLACKSTART_CONTROLLER_STORE_URL"]["valueFrom"]["secretKeyRef"] == {"name": "mine", "key": "url"}
    assert environment["BLACKSTART_CONTROLLER_KUBERNETES__LEASE"]["value"] == "default/blackstart-controller"
    policy = found["NetworkPolicy", "default", "blackstart-controller"]["spec"]
    assert policy["egress"][-1] == {"ports": [{"port": 6432}]}
    for name in ("Deployment", "Role", "PodDisruptionBudget"):
        some = [one for (kind, namespace, _), one in found.items() if (kind, namespace) == (name, "default")]
        kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", document=some[0])


def test_the_api_server_takes_every_mode_in_namespaces_of_other_names(helm, kubectl):
    for name in ("here", "there"):
        kubectl("create", "namespace", name)
    modes, gpus = ("node", "restricted", "all-faults"), ("true", "false")
    for mode, gpu in itertools.product(modes, gpus):
        done = helm(
            f"agents.mode={mode}", f"agents.gpu.enabled={gpu}", "namespaces.controller=here", "namespaces.agents=there",
            "namespaces.create=false", "authority.certificate=x", "authority.key=y", "controller.storageClass=fast",
            "controller.settings.heartbeat_s=1", "agents.faults={network.*}", "clusterFaults.namespaces={a-b,default}",
            "clusterFaults.quotaProof={default}",
        )  # fmt: skip
        found = rendered(done)
        assert {namespace for _, namespace, _ in found} == {"here", "there", "", "a-b", "default"}
        settings = found["ConfigMap", "here", "blackstart-controller"]["data"]["controller.yaml"]
        assert settings["heartbeat_s"] == 1
        assert settings["kubernetes"] == {"agents": "there/blackstart-agent"}
        policy = found["ConfigMap", "there", "blackstart-agent-policy"]["data"]["policy.yaml"]
        assert policy["faults"] == ["network.*"]
        assert {"here", "there", "kube-system", "blackstart*"} <= set(policy["protected_namespaces"])
        assert "blackstart." not in str(found["ConfigMap", "there", "blackstart-join"]["data"]).replace(
            "blackstart.invalid", ""
        )
        some = [one for (kind, namespace, _), one in found.items() if namespace != "a-b" and kind != "Secret"]
        for one in some:
            if one["kind"] == "ConfigMap":
                one["data"] = {name: yaml.safe_dump(content) for name, content in one["data"].items()}
        document = {"apiVersion": "v1", "kind": "List", "items": some}
        kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", document=document)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (("agents.mode=some",), "agents.mode"),
        (("agents.fault={x}",), "fault"),
        (("authority.certificate=x",), "authority.key is missing"),
        (("authority.certificate=x", "authority.certManager=true"), "either a certificate and its key, or certManager"),
        (("clusterFaults.namespaces={Not_A_Name}",), "clusterFaults.namespaces"),
        (("controller.replicas=2",), "more than one need a PostgreSQL"),
        (("controller.replicas=0",), "controller.replicas"),
    ],
)
def test_values_that_are_wrong_are_refused(helm, values, why):
    done = helm(*values)
    assert done.returncode != 0
    assert why in done.stderr.replace("/", "."), done.stderr
