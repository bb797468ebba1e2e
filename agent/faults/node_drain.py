"""`node.drain`: a node is cordoned and its pods are evicted, as before maintenance; uncordoned at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults import kube_nodes as nodes
from agent.faults import kube_object as objects
from agent.faults import kube_pods as pods
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.kube_held import ENDS, HeldKube, ask, effect, planning, receipt
from agent.faults.node_cordon import by_hand, seen
from agent.system.kube_wire import TOO_MANY, Api, Json, KubeError

_AGAIN_S: Final = 1.0  # between attempts to evict what a budget keeps
_LOOK_S: Final = 0.1
_WAITS: Final = "not asked"
_ASKED: Final = "evicted, and still there"
_DONE: Final = "gone"


class DrainSpec(nodes.NodesSpec, kw_only=True, forbid_unknown_fields=True):
    grace_s: Annotated[int, Meta(ge=-1, le=600, description="grace of each pod, seconds; -1: its own")] = -1
    timeout_s: Annotated[
        float, Meta(gt=0, le=40, description="how long evictions are tried and waited for, seconds")
    ] = 20.0
    force: Annotated[bool, Meta(description="also pods without an owner, which nothing brings back")] = False


class NodeDrain(HeldKube):
    """Every pod that was to go is gone from the node, by its UID; each one's outcome is in the receipt."""

    kind: ClassVar[str] = "node.drain"
    spec: ClassVar[type[msgspec.Struct]] = DrainSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="A node is cordoned and its pods are evicted, as an administrator does before maintenance.",
        mechanism="spec.unschedulable of the Node, then POST to the `eviction` of each pod, again every second while "
        "a PodDisruptionBudget forbids it.",
        proof="The pods on the node are listed again: confirmed when every pod that was to go is gone, by its UID. "
        "The receipt gives each one's outcome.",
        ends=ENDS + "It ends by uncordoning, and evicting no more. A node that had been cordoned before stays so.",
        limits="Pods that were evicted do not come back to the node by themselves. Pods of a DaemonSet, mirrors of "
        "static pods and pods that have ended are left; pods without an owner are refused unless `force` is given. A "
        "budget that keeps a pod makes the receipt unconfirmed, with the budget's words. Data in emptyDir volumes is "
        "lost. Pods in protected namespaces make a drain be refused. What comes to the node between the plan and the "
        "cordon is left.",
        example={"node": "worker-3", "timeout_s": 20},
        source="kubernetes.io, Safely Drain a Node; API-initiated eviction",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._draining: set[str] = set()

    def plan(self, spec: DrainSpec) -> list[Effect]:
        with planning() as api:
            return [self._effect(api, node, spec) for node in nodes.resolve(api, spec)]

    def _effect(self, api: Api, node: Json, spec: DrainSpec) -> Effect:
        known = nodes.facts(node, "cordon")
        going = [pod for pod in nodes.pods_on(api, known["node"]) if _goes(pod)]
        pods.refuse_lonely(going, force=spec.force)
        return effect(
            self.kind, self.undo, resource=f"node:{known['uid']}:schedulable",
            description=f"{known['name']} drained of {len(going)} pods",
            touches=Touched(nodes=[known["node"]], namespaces=sorted({pod["metadata"]["namespace"] for pod in going})),
            facts=known | {
                "before": bool(node["spec"].get("unschedulable")), "wanted": True,
                "grace_s": None if spec.grace_s < 0 else spec.grace_s, "timeout_s": spec.timeout_s,
                "pods": [pods.facts(pod) | {"outcome": _WAITS} for pod in going],
            },
        )  # fmt: skip

    def _arguments(self, effect: Effect) -> dict[str, Any]:
        return {name: value for name, value in effect.facts.items() if name != "pods"}

    async def inject(self, effect: Effect) -> Injected:
        self._draining.add(effect.id)
        cordoned = await super().inject(effect)
        left_s = (effect.deadline_ns - time.monotonic_ns()) / 1e9
        until = time.monotonic() + min(effect.facts["timeout_s"], left_s)
        again = 0.0
        while effect.id in self._draining:
            if time.monotonic() >= again:
                again = time.monotonic() + _AGAIN_S
                await self._evict(effect)
            if await ask(effect, lambda api: _all_gone(api, effect.facts)) or time.monotonic() >= until:
                break
            await asyncio.sleep(_LOOK_S)
        self._draining.discard(effect.id)
        return Injected(cordoned.lo_ns, time.monotonic_ns())

    async def _evict(self, effect: Effect) -> None:
        """Asks for the eviction of every pod that has not been evicted yet; stops where the effect has ended."""
        grace_s = effect.facts["grace_s"]
        for pod in _kept(effect.facts):
            if effect.id not in self._draining:
                return
            pod["outcome"] = await ask(effect, lambda api, pod=pod: _evicted(api, pod, grace_s))  # type: ignore[misc]

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        cordoned, text = await seen(effect)
        going = effect.facts["pods"]
        gone = await ask(effect, lambda api: _all_gone(api, effect.facts))
        told = "; ".join(f"{pod['namespace']}/{pod['pod']}: {pod['outcome']}" for pod in going)
        count = sum(pod["outcome"] == _DONE for pod in going)
        return receipt(
            injected, confirmed=cordoned and gone, text=f"{text}; {count} of {len(going)} pods are gone ({told})"
        )

    async def revert(self, effect: Effect) -> None:
        self._draining.discard(effect.id)
        await super().revert(effect)

    def _by_hand(self, facts: dict[str, Any]) -> str:
        return by_hand(facts)


def _goes(pod: Json) -> bool:
    ours = pods.owner(pod).startswith("DaemonSet/") or pods.MIRROR in objects.notes(pod)
    return not ours and pod["status"].get("phase") not in ("Succeeded", "Failed")


def _kept(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (pod for pod in facts["pods"] if pod["outcome"] not in (_ASKED, _DONE))


def _evicted(api: Api, pod: dict[str, Any], grace_s: int | None) -> str:
    """What came of it, in words."""
    try:
        answer = pods.evict(api, pod, grace_s)
    except KubeError as error:
        if error.status == TOO_MANY:
            return f"kept: {error}"  # by no budget: the server has too much to do
        if not pods.vanished(error):
            raise
        return _DONE
    return f"kept: {answer.message}" if pods.blocked(answer) else _ASKED


def _all_gone(api: Api, facts: dict[str, Any]) -> bool:
    """Whether none of them is on the node any more; says so of each."""
    there = {objects.uid(pod) for pod in nodes.pods_on(api, facts["node"])}
    for pod in facts["pods"]:
        if pod["uid"] not in there:
            pod["outcome"] = _DONE
    return all(pod["outcome"] == _DONE for pod in facts["pods"])
