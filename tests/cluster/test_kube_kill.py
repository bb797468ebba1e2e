"""Pods that are killed, and what budgets, the policy and a wrong spec refuse, on a real control plane."""

from __future__ import annotations

import pytest

from protos.error import FaultError, RefusedError, SpecError
from tests.chaos import kube_eye
from tests.cluster.fault_rig import allowed, budget, lonely, names, planned, put

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("faulted")]


async def test_a_killed_pod_is_that_one_and_its_owner_brings_another(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 3)
    before = names(one, space)
    first, effect = planned("pod.kill", {"namespace": space, "selector": "app=web", "seed": 3})
    _, again = planned("pod.kill", {"namespace": space, "selector": "app=web", "seed": 3})
    assert effect.facts["uid"] == again.facts["uid"], "the same seed picks the same"
    receipt = await put(first, effect)
    assert receipt.confirmed, receipt.text
    assert effect.facts["uid"] in receipt.text
    one.until(lambda: len(names(one, space)) == 3, "three again")
    assert before - names(one, space) == {effect.facts["pod"]}
    with pytest.raises(FaultError, match="is not there any more"):
        await put(first, again)
    assert len(names(one, space)) == 3, "the pod that came is not another target"


async def test_a_pod_of_the_same_name_is_another_pod(staged):
    one, space, host = staged
    pods = f"/api/v1/namespaces/{space}/pods"
    one.ask("POST", pods, lonely("alone", host))
    with pytest.raises(RefusedError, match="has no owner that would bring another one"):
        planned("pod.kill", {"namespace": space, "name": "alone"})
    fault, effect = planned("pod.kill", {"namespace": space, "name": "alone", "force": True})
    one.delete(f"{pods}/alone")
    one.until(lambda: not one.get(f"{pods}/alone"), "it is gone")
    one.ask("POST", pods, lonely("alone", host))
    with pytest.raises(FaultError, match="is not there any more"):
        await put(fault, effect)
    assert one.get(f"{pods}/alone")


@pytest.mark.parametrize("via", ["delete", "evict"])
async def test_a_kill_that_a_budget_forbids_is_refused(staged, via):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 2)
    free, early = planned("pod.kill", {"namespace": space, "selector": "app=web", "via": via})
    allowed(early)
    budget(one, space, 2)
    fault, effect = planned("pod.kill", {"namespace": space, "selector": "app=web", "via": via})
    with pytest.raises(RefusedError, match=r"respects PodDisruptionBudgets: pod .*disruption budget"):
        allowed(effect)
    allowed(effect, respect_pdb=False)
    with pytest.raises(RefusedError, match="a PodDisruptionBudget forbids it"):
        await put(free, early)  # planned before there was a budget: the cluster itself decides
    effect.facts["respect_pdb"] = False
    before = names(one, space)
    if via == "delete":
        assert (await put(fault, effect)).confirmed
    else:
        with pytest.raises(RefusedError, match="a PodDisruptionBudget forbids it"):
            await put(fault, effect)
        assert names(one, space) == before


async def test_of_two_kills_at_once_a_budget_lets_one_through(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 2)
    budget(one, space, 1)
    plans = [planned("pod.kill", {"namespace": space, "name": name}) for name in sorted(names(one, space))]
    for _, effect in plans:
        allowed(effect)
    one.patch(f"/api/v1/nodes/{host}", {"spec": {"unschedulable": True}})  # no other pod may take the first one's place
    await put(*plans[0])
    uid = plans[1][1].facts["uid"]
    with pytest.raises(RefusedError, match="a PodDisruptionBudget forbids it"):
        await put(*plans[1])
    assert uid in {pod["metadata"]["uid"] for pod in kube_eye.running(one, space)}


async def test_what_the_policy_protects_is_refused(staged):
    one, space, host = staged
    kube_eye.deployment(one, space, host, 1)
    _, kill = planned("pod.kill", {"namespace": space, "selector": "app=web"})
    with pytest.raises(RefusedError, match="is not among those"):
        allowed(kill, namespaces=["shop"])
    with pytest.raises(RefusedError, match="is protected by the node's policy"):
        allowed(kill, protected_namespaces=["test-*"])
    for kind, spec in (("node.cordon", {}), ("node.taint", {}), ("node.drain", {})):
        _, effect = planned(kind, {"node": host, **spec})
        with pytest.raises(RefusedError, match=f"node {host} is not among those"):
            allowed(effect, nodes=["gpu-*"])
    _, drain = planned("node.drain", {"node": host})
    with pytest.raises(RefusedError, match=f"namespace {space} is protected"):
        allowed(drain, protected_namespaces=["test-*"])
    for kind, spec in (
        ("deployment.scale", {"name": "web", "replicas": 0}),
        ("rollout.bad_image", {"name": "web"}),
        ("pdb.block", {"labels": {"app": "web"}}),
        ("quota.exhaust", {}),
    ):
        _, effect = planned(kind, {"namespace": space, **spec})
        with pytest.raises(RefusedError, match=f"namespace {space} is protected"):
            allowed(effect, protected_namespaces=["test-*"])


async def test_nothing_that_is_not_there_is_a_target(staged):
    _, space, _ = staged
    for kind, spec, said in (
        ("pod.kill", {"namespace": space, "selector": "app=none"}, "no live pod"),
        ("pod.kill", {"namespace": space}, "exactly one of name and selector"),
        ("pod.kill", {"namespace": "../secrets", "name": "x"}, "namespace"),
        ("node.cordon", {"node": "none"}, "no such node"),
        ("node.taint", {"selector": "pool=none"}, "no such node"),
        ("deployment.scale", {"namespace": space, "name": "none", "replicas": 1}, "no deployment none"),
        ("pdb.block", {"namespace": space, "labels": {"app": "none"}}, "no running pod"),
        ("quota.exhaust", {"namespace": "none-such"}, "no namespace none-such"),
        ("lease.steal", {"namespace": space, "name": "none"}, "no lease none"),
        ("pod.kill", {"namespace": space, "selector": "a in ("}, "unable to parse"),
    ):
        with pytest.raises(SpecError, match=said):
            planned(kind, spec)
