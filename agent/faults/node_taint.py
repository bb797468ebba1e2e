"""`node.taint`: a taint keeps pods off a node, or drives off those that do not tolerate it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from agent.faults import kube_change
from agent.faults import kube_nodes as nodes
from agent.faults import kube_object as objects
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.kube_held import ENDS, HeldKube, ask, effect, planning, receipt, until
from agent.system.kube_wire import Api, Json
from protos.error import RefusedError

_KEY: Final = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z"
_LEAVING_S: Final = 3.0
_KUBERNETES: Final = ("kubernetes.io", "k8s.io")  # node.kubernetes.io/out-of-service tears volumes off


class TaintSpec(nodes.NodesSpec, kw_only=True, forbid_unknown_fields=True):
    key: Annotated[str, Meta(pattern=_KEY, description="key of the taint")] = "blackstart.dev/taint"
    value: Annotated[str, Meta(pattern=_VALUE, description="its value")] = "true"
    effect: Annotated[
        Literal["NoSchedule", "NoExecute", "PreferNoSchedule"],
        Meta(description="what it does to pods without toleration"),
    ] = "NoSchedule"


class NodeTaint(HeldKube):
    """Read again, the node bears it; of NoExecute the pods that leave are seen, too."""

    kind: ClassVar[str] = "node.taint"
    spec: ClassVar[type[msgspec.Struct]] = TaintSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="A taint keeps pods that do not tolerate it off a node; NoExecute evicts those that are there.",
        mechanism="spec.taints of the Node, changed in the version that was looked at.",
        proof="Read again, the node bears the taint. Of NoExecute the pods that do not tolerate it are looked at, "
        "too: where there are any, at least one must be ending or gone within 3 s.",
        ends=ENDS + "Only a taint with the value that was set is removed, from a node that still bears the effect's "
        "annotation.",
        limits="Keys of Kubernetes' own (below kubernetes.io and k8s.io) are refused, and a node that has a taint "
        "of that key and effect. Pods that were evicted do not come back. "
        "The eviction by taint respects no PodDisruptionBudget: that is Kubernetes' own rule, so a taint with "
        "NoExecute is refused where the policy respects budgets and one covers a pod that would be evicted. Pods of "
        "protected namespaces that it would evict are protected, too.",
        example={"selector": "pool=gpu", "key": "maintenance", "effect": "NoExecute"},
        source="Kubernetes API, Taint; kubernetes.io, Taints and Tolerations",
    )  # fmt: skip

    def plan(self, spec: TaintSpec) -> list[Effect]:
        domain = spec.key.rpartition("/")[0]
        if any(domain == own or domain.endswith(f".{own}") for own in _KUBERNETES):
            raise RefusedError(f"{spec.key} is a key of Kubernetes' own: its controllers act on it (volumes, pods)")
        with planning() as api:
            return [self._effect(api, node, spec) for node in nodes.resolve(api, spec)]

    def _effect(self, api: Api, node: Json, spec: TaintSpec) -> Effect:
        known = nodes.facts(node, "taint") | {
            "key": spec.key, "taint": spec.effect, "before": None, "wanted": spec.value,
        }  # fmt: skip
        if kube_change.CHANGES["taint"].value(node, known) is not None:
            raise RefusedError(f"{known['name']} has a taint {spec.key}:{spec.effect} already, not by us")
        leaving = leavers(nodes.pods_on(api, known["node"]), known) if spec.effect == "NoExecute" else []
        return effect(
            self.kind, self.undo, resource=f"node:{known['uid']}:taint:{spec.key}:{spec.effect}",
            description=f"{known['name']} tainted {spec.key}={spec.value}:{spec.effect}",
            touches=Touched(
                nodes=[known["node"]], namespaces=sorted({pod["metadata"]["namespace"] for pod in leaving}),
                budgets=objects.covered(api, leaving),
            ),
            facts=known | {"leaving": [objects.uid(pod) for pod in leaving]},
        )  # fmt: skip

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts = effect.facts
        there = await ask(effect, lambda api: _bears(api, facts))
        does = "bears" if there else "does not bear"
        text = f"{facts['name']} {does} {facts['key']}={facts['wanted']}:{facts['taint']}"
        if not facts["leaving"]:
            return receipt(injected, confirmed=there, text=text)
        left = await until(effect, lambda api: _left(api, facts), _LEAVING_S)
        text += f"; of {len(facts['leaving'])} pods without toleration, {left} are ending or gone"
        return receipt(injected, confirmed=there and left > 0, text=text)

    def _by_hand(self, facts: dict[str, Any]) -> str:
        node, taint = facts["node"], f"{facts['key']}={facts['wanted']}:{facts['taint']}-"
        return f"kubectl taint node {node} {taint}; kubectl annotate node {node} {objects.MARK}-taint-"


def _bears(api: Api, facts: dict[str, Any]) -> bool:
    node = objects.same(api, facts["path"], facts["uid"])
    return node is not None and bool(kube_change.CHANGES["taint"].value(node, facts) == facts["wanted"])


def _left(api: Api, facts: dict[str, Any]) -> int:
    staying = {objects.uid(pod) for pod in nodes.pods_on(api, facts["node"]) if not objects.is_ending(pod)}
    return len(set(facts["leaving"]) - staying)


def leavers(pods: list[Json], known: dict[str, Any]) -> list[Json]:
    """The pods that do not tolerate the taint for ever."""
    return [pod for pod in pods if not any(_tolerates(one, known) for one in pod["spec"].get("tolerations") or [])]


def _tolerates(one: Json, known: dict[str, Any]) -> bool:
    if one.get("tolerationSeconds") is not None or one.get("effect") not in (None, "", known["taint"]):
        return False
    if one.get("operator") == "Exists":
        return one.get("key") in (None, "", known["key"])
    return bool(one.get("key") == known["key"] and (one.get("value") or "") == known["wanted"])
