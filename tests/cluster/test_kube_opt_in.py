"""That a fault is confirmed by what it did alone, and is none of another kind, on a real control plane."""

from __future__ import annotations

import msgspec
import pytest

from protos.error import RefusedError, SpecError
from tests.chaos import kube_eye
from tests.cluster.fault_rig import allowed, budget, in_force, planned, put

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("faulted")]


async def test_the_dns_that_is_killed_is_what_its_service_selects(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 1)
    kube_eye.deployment(one, space, host, 1, name="dns")
    with pytest.raises(SpecError, match=f"namespace {space} has no Service kube-dns that selects pods"):
        planned("dns.coredns_kill", {"namespace": space})
    with pytest.raises((SpecError, msgspec.ValidationError), match="selector"):
        planned("dns.coredns_kill", {"namespace": space, "selector": "app=web"})
    service = {"metadata": {"name": "kube-dns"}, "spec": {"ports": [{"port": 53}]}}
    one.ask("POST", f"/api/v1/namespaces/{space}/services", service)
    with pytest.raises(SpecError, match="that selects pods"):
        planned("dns.coredns_kill", {"namespace": space})
    path = f"/api/v1/namespaces/{space}/services/kube-dns"
    one.patch(path, {"spec": {"selector": {"app": "dns"}}})
    _, effect = planned("dns.coredns_kill", {"namespace": space})
    assert effect.facts["pod"].startswith("dns-")


async def test_a_quota_of_others_does_not_confirm_ours(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 1)
    quotas = f"/api/v1/namespaces/{space}/resourcequotas"
    one.ask("POST", quotas, {"metadata": {"name": "team-a"}, "spec": {"hard": {"pods": "1"}}})
    one.until(lambda: one.get(f"{quotas}/team-a").get("status", {}).get("used"), "it is counted")
    fault, effect = planned("quota.exhaust", {"namespace": space})
    fault.prepare(effect)
    injected = await fault.inject(effect)
    one.delete(f"{quotas}/{effect.facts['object']}")
    receipt = await fault.observe(effect, injected)
    assert not receipt.confirmed, receipt.text
    await fault.revert(effect)


async def test_a_budget_of_others_does_not_confirm_ours_and_is_told_of(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 1)
    budget(one, space, 1)
    spec = {"namespace": space, "labels": {"app": "web"}}
    fault, effect, receipt = await in_force("pdb.block", spec)
    assert "before the fault it was refused already: Cannot evict pod" in receipt.text
    await fault.revert(effect)
    fault, effect = planned("pdb.block", spec)
    fault.prepare(effect)
    injected = await fault.inject(effect)
    one.delete(f"/apis/policy/v1/namespaces/{space}/poddisruptionbudgets/{effect.facts['object']}")
    receipt = await fault.observe(effect, injected)
    assert not receipt.confirmed, receipt.text
    await fault.revert(effect)


async def test_a_pod_that_may_be_evicted_is_tried_where_there_is_one(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 1)
    budget(one, space, 1)
    kube_eye.deployment(one, space, host, 1, name="z-free")
    for app in ("web", "z-free"):
        (pod,) = kube_eye.running(one, space, app)
        path = f"/api/v1/namespaces/{space}/pods/{pod['metadata']['name']}"
        one.patch(path, {"metadata": {"labels": {"tier": "x"}}})
    fault, effect, receipt = await in_force("pdb.block", {"namespace": space, "labels": {"tier": "x"}})
    assert receipt.confirmed, receipt.text
    assert "z-free" in receipt.text
    assert "before the fault" not in receipt.text
    await fault.revert(effect)


async def test_scaling_down_below_a_budget_is_refused(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 3)
    budget(one, space, 1)
    spec = {"namespace": space, "name": "web"}
    _, effect = planned("deployment.scale", spec | {"replicas": 0})
    with pytest.raises(RefusedError, match=r"PodDisruptionBudget web lets 2 pods go, .* would lose 3"):
        allowed(effect)
    allowed(effect, respect_pdb=False)
    for replicas in (1, 5):
        _, effect = planned("deployment.scale", spec | {"replicas": replicas})
        allowed(effect)


@pytest.mark.parametrize("key", ["node.kubernetes.io/out-of-service", "kubernetes.io/x", "a.k8s.io/y"])
async def test_taints_of_kubernetes_own_are_refused(staged, key):
    _, _, host = staged
    with pytest.raises(RefusedError, match="is a key of Kubernetes' own"):
        planned("node.taint", {"node": host, "key": key})
    planned("node.taint", {"node": host, "key": "notkubernetes.io/z"})


async def test_no_mark_comes_back_with_an_undone_rollout(staged, kubectl):
    one, space, host = staged
    path = kube_eye.deployment(one, space, host, 1)
    for kind, spec in (("rollout.bad_image", {}), ("deployment.scale", {"replicas": 2})):
        fault, effect, _ = await in_force(kind, {"namespace": space, "name": "web", **spec})
        assert kube_eye.marks(one.get(path))
        sets = one.until(lambda: one.items(f"/apis/apps/v1/namespaces/{space}/replicasets"), "it is rolled out")
        await fault.revert(effect)
        sets = one.items(f"/apis/apps/v1/namespaces/{space}/replicasets")
        assert [mark for found in sets for mark in kube_eye.marks(found)] == [], kind
    one.until(lambda: len(one.items(f"/apis/apps/v1/namespaces/{space}/replicasets")) == 2, "two revisions")
    kubectl("-n", space, "rollout", "undo", "deployment/web")
    assert kube_eye.marks(one.get(path)) == []
    assert one.get(path)["spec"]["template"]["spec"]["containers"][0]["image"].startswith("blackstart.invalid/none:")
    fault, effect = planned("rollout.bad_image", {"namespace": space, "name": "web", "image": "x.invalid/y"})
    await put(fault, effect)
    await fault.revert(effect)
