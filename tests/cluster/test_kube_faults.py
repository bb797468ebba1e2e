"""What the faults that last do in a cluster, and what they leave alone, on a real control plane with played nodes."""

from __future__ import annotations

from typing import Any

import pytest

from protos.error import RefusedError, SpecError
from tests.chaos import kube_eye
from tests.cluster.fault_rig import allowed, budget, in_force, lonely, names, planned

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("faulted")]


async def test_a_drain_tells_what_became_of_each_pod_and_leaves_what_is_not_its_own(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 2)
    one.ask("POST", f"/apis/apps/v1/namespaces/{space}/daemonsets", daemon(host))
    one.until(lambda: len(kube_eye.running(one, space, "daemon")) == 1, "the daemon runs")
    budget(one, space, 1)
    fault, effect, receipt = await in_force("node.drain", {"node": host, "timeout_s": 2.5, "grace_s": 0})
    try:
        assert not receipt.confirmed, "one of two is kept by its budget: on no other node can there be a second"
        assert "1 of 2 pods are gone" in receipt.text
        assert "kept: Cannot evict pod" in receipt.text
        assert len(kube_eye.running(one, space, "daemon")) == 1
    finally:
        await fault.revert(effect)
    assert not one.get(f"/api/v1/nodes/{host}")["spec"].get("unschedulable")
    assert fault.residue(effect) == []


def daemon(host: str) -> dict[str, Any]:
    labels = {"app": "daemon"}
    containers = [{"name": "main", "image": "nothing.invalid/none"}]
    pod = {"containers": containers, "nodeSelector": {"kubernetes.io/hostname": host}}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {"metadata": {"name": "daemon"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}


async def test_a_drain_ends_when_it_is_reverted_and_a_cordoned_node_stays_cordoned(staged):
    one, space, host = staged
    one.patch(f"/api/v1/nodes/{host}", {"spec": {"unschedulable": True}})
    with pytest.raises(RefusedError, match="is cordoned already, not by us"):
        planned("node.cordon", {"node": host})
    fault, effect, receipt = await in_force("node.drain", {"node": host})
    assert receipt.confirmed, receipt.text
    assert fault.residue(effect)
    await fault.revert(effect)
    assert fault.residue(effect) == []
    found = one.get(f"/api/v1/nodes/{host}")
    assert (found["spec"]["unschedulable"], kube_eye.marks(found)) == (True, [])
    assert not names(one, space)


async def test_what_somebody_else_changed_meanwhile_stays_as_they_wanted_it(staged):
    one, space, host = staged
    path = kube_eye.deployment(one, space, host, 1)
    node = f"/api/v1/nodes/{host}"
    scale, scaled, _ = await in_force("deployment.scale", {"namespace": space, "name": "web", "replicas": 2})
    image, imaged, seen = await in_force("rollout.bad_image", {"namespace": space, "name": "web"})
    taint, tainted, _ = await in_force("node.taint", {"node": host, "key": "test", "value": "ours"})
    assert "is played: nothing is pulled there" in seen.text
    others = [{"key": "test", "value": "theirs", "effect": "NoSchedule"}, {"key": "b", "effect": "NoSchedule"}]
    one.patch(node, {"spec": {"taints": others}})
    containers = [{"name": "main", "image": "nothing.invalid/newer:2"}]
    one.patch(path, {"spec": {"replicas": 3, "template": {"spec": {"containers": containers}}}})
    for fault, effect in ((scale, scaled), (image, imaged), (taint, tainted)):
        await fault.revert(effect)
        assert fault.residue(effect) == []
        assert "was changed by somebody else meanwhile" in effect.facts["ended"]
    found = one.get(path)
    assert found["spec"]["replicas"] == 3
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "nothing.invalid/newer:2"
    assert kube_eye.marks(found) == []
    assert one.get(node)["spec"]["taints"] == others


async def test_what_stands_beside_is_kept(staged):
    one, space, host = staged
    path, node = kube_eye.deployment(one, space, host, 1), f"/api/v1/nodes/{host}"
    other = {"key": "b", "value": "x", "effect": "NoSchedule"}
    one.patch(node, {"spec": {"taints": [other]}})
    with pytest.raises(RefusedError, match="has a taint b:NoSchedule already"):
        planned("node.taint", {"node": host, "key": "b"})
    taint, tainted, receipt = await in_force("node.taint", {"node": host, "key": "test"})
    assert receipt.confirmed
    image, imaged, _ = await in_force("rollout.bad_image", {"namespace": space, "name": "web"})
    one.patch(path, {"spec": {"template": {"metadata": {"annotations": {"newer": "1"}}}}})
    await taint.revert(tainted)
    await image.revert(imaged)
    assert one.get(node)["spec"]["taints"] == [other]
    template = one.get(path)["spec"]["template"]
    assert template["metadata"]["annotations"] == {"newer": "1"}
    assert template["spec"]["containers"][0]["image"] == "nothing.invalid/none:1"
    assert "ended" not in imaged.facts


async def test_an_object_of_the_same_name_is_another_one(staged):
    one, space, host = staged
    path = kube_eye.deployment(one, space, host, 1)
    fault, effect, _ = await in_force("deployment.scale", {"namespace": space, "name": "web", "replicas": 0})
    marked = one.get(path)
    one.delete(path)
    one.until(lambda: not one.get(path), "it is gone")
    again = {key: marked["metadata"][key] for key in ("name", "annotations")}
    one.ask("POST", path.rpartition("/")[0], {"metadata": again, "spec": marked["spec"]})
    await fault.revert(effect)
    assert fault.residue(effect) == []
    assert one.get(path)["spec"]["replicas"] == 0, "a copy with our mark on it is not what we changed"


async def test_no_execute_drives_pods_off_and_respects_what_taints_themselves_do_not(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 2)
    spec = {"node": host, "key": "test", "effect": "NoExecute"}
    fault, effect, receipt = await in_force("node.taint", spec)
    assert receipt.confirmed, receipt.text
    assert "of 2 pods without toleration" in receipt.text
    await fault.revert(effect)
    one.until(lambda: len(names(one, space)) == 2, "they are back")
    budget(one, space, 1)
    _, effect = planned("node.taint", spec)
    with pytest.raises(RefusedError, match="PodDisruptionBudget web covers it"):
        allowed(effect)
    with pytest.raises(RefusedError, match=f"namespace {space} is protected"):
        allowed(effect, protected_namespaces=[space], respect_pdb=False)


async def test_a_deployment_that_an_autoscaler_scales_is_refused(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 1)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    scaler = {"metadata": {"name": "web"}, "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5}}
    one.ask("POST", f"/apis/autoscaling/v2/namespaces/{space}/horizontalpodautoscalers", scaler)
    spec = {"namespace": space, "name": "web", "replicas": 2}
    with pytest.raises(RefusedError, match="is scaled by HorizontalPodAutoscaler web"):
        planned("deployment.scale", spec)
    planned("deployment.scale", spec | {"force": True})
    with pytest.raises(SpecError, match="has 1 replicas already"):
        planned("deployment.scale", spec | {"replicas": 1, "force": True})


async def test_a_namespace_that_is_full_takes_no_pod(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 1)
    fault, effect, receipt = await in_force("quota.exhaust", {"namespace": space})
    assert receipt.confirmed, receipt.text
    assert "exceeded quota: blackstart-" in receipt.text
    with pytest.raises(AssertionError, match="exceeded quota"):
        one.ask("POST", f"/api/v1/namespaces/{space}/pods", lonely("more", host))
    await fault.revert(effect)
    one.ask("POST", f"/api/v1/namespaces/{space}/pods", lonely("more", host))


async def test_a_budget_of_ours_blocks_a_drain(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 2)
    fault, effect, receipt = await in_force("pdb.block", {"namespace": space, "labels": {"app": "web"}})
    assert receipt.confirmed, receipt.text
    drain, drained, seen = await in_force("node.drain", {"node": host, "timeout_s": 1.5})
    await drain.revert(drained)
    assert "0 of 2 pods are gone" in seen.text
    theirs = f"/apis/policy/v1/namespaces/{space}/poddisruptionbudgets/{effect.facts['object']}"
    one.patch(theirs, {"metadata": {"labels": {"blackstart.dev/effect": "another"}}})
    await fault.revert(effect)
    assert one.get(theirs), "it bears another mark: it is not ours to delete"
