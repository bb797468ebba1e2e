"""The overlay high-availability under the real controllers of a cluster; which of its pods is ready, is played here."""

from __future__ import annotations

import json
import time

import pytest
import yaml

from blackstart.install import rollout
from tests.cluster.conftest import Kubectl
from tests.cluster.leader_rig import DEPLOY, NAME, NAMESPACE, wait_for

pytestmark = pytest.mark.timeout(180)
WITHIN_S = 30


class Installed:
    """The Deployment and its budget; pods wait for a node that is not there."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        rendered = yaml.safe_load_all(kubectl("kustomize", str(DEPLOY / "overlays" / "high-availability")))
        wanted = {"Namespace", "ServiceAccount", "Deployment", "PodDisruptionBudget"}
        some = [one for one in rendered if one["kind"] in wanted and "agent" not in one["metadata"]["name"]]
        for one in some:
            kubectl("create", "-f", "-", document=one)

    def pods(self) -> dict[str, dict]:
        """Those that are not being deleted, by name."""
        items = self.kubectl.json("-n", NAMESPACE, "get", "pods")["items"]
        return {one["metadata"]["name"]: one for one in items if "deletionTimestamp" not in one["metadata"]}

    def is_ready(self, pod: str) -> None:
        """As the kubelet would say of the leader, and of no other."""
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        patch = json.dumps({"status": status})
        self.kubectl("-n", NAMESPACE, "patch", "pod", pod, "--subresource=status", "--type=merge", "-p", patch)
        wait_for(lambda: self.status("deployment").get("availableReplicas") == 1, WITHIN_S)
        wait_for(lambda: self.status("poddisruptionbudget").get("currentHealthy") == 1, WITHIN_S)

    def status(self, kind: str) -> dict:
        return self.kubectl.json("-n", NAMESPACE, "get", kind, NAME)["status"]

    def evict(self, pod: str) -> str:
        """What the API server says."""
        document = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
        done = self.kubectl.try_("create", "--raw", path, "-f", "-", document=document)
        return done.stdout + done.stderr

    def rolls(self, image: str) -> None:
        change = {"spec": {"template": {"spec": {"containers": [{"name": "controller", "image": image}]}}}}
        self.kubectl("-n", NAMESPACE, "patch", "deployment", NAME, "-p", json.dumps(change))

    def images(self) -> list[str]:
        return sorted(one["spec"]["containers"][0]["image"] for one in self.pods().values())


@pytest.fixture
def installed(kubectl):
    made = Installed(kubectl)
    wait_for(lambda: len(made.pods()) == 2, WITHIN_S)
    yield made
    kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=60s")


def test_a_standby_may_be_evicted_and_the_leader_only_on_purpose(installed):
    leader, standby = installed.pods()
    installed.is_ready(leader)
    assert "Cannot evict pod as it would violate the pod's disruption budget" in installed.evict(leader)
    assert '"status":"Success"' in installed.evict(standby)
    wait_for(lambda: len(installed.pods()) == 2 and standby not in installed.pods(), WITHIN_S)
    assert leader in installed.pods()


def test_a_rollout_does_not_wait_for_a_standby_to_be_ready(installed, kubectl):
    def complete() -> bool:
        """To `blackstart up --kubernetes`."""
        return rollout._Row(kubectl.json("-n", NAMESPACE, "get", "deployment", NAME)).done

    assert not complete()
    installed.is_ready(next(iter(installed.pods())))
    assert complete()
    installed.rolls("new.invalid/controller:2")
    wait_for(lambda: installed.images() == ["new.invalid/controller:2"] * 2, WITHIN_S, lambda: str(installed.images()))
    assert not complete()


def test_a_rollout_that_may_miss_one_alone_would_wait_for_ever(installed, kubectl):
    """Why it may miss both."""
    change = {"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 1}}}}
    kubectl("-n", NAMESPACE, "patch", "deployment", NAME, "-p", json.dumps(change))
    leader = next(iter(installed.pods()))
    installed.is_ready(leader)
    installed.rolls("new.invalid/controller:2")
    wait_for(lambda: installed.images().count("new.invalid/controller:2") == 2, WITHIN_S)
    time.sleep(5)
    assert leader in installed.pods(), "nobody ends the old leader, and no new pod can lead before that"
