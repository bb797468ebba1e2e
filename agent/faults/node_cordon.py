"""`node.cordon`: no new pod is put on a node."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from agent.faults import kube_nodes as nodes
from agent.faults import kube_object as objects
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.kube_held import ENDS, HeldKube, ask, effect, planning, receipt, until
from agent.system.kube_wire import Api, Json
from protos.error import RefusedError

TAINT: Final = "node.kubernetes.io/unschedulable"  # put there by a controller when a node is cordoned
_NOTICED_S: Final = 3.0


class CordonSpec(nodes.NodesSpec, kw_only=True, forbid_unknown_fields=True):
    """All of it is the nodes."""


class NodeCordon(HeldKube):
    """The API server's own search finds the node among the unschedulable, and a controller has tainted it."""

    kind: ClassVar[str] = "node.cordon"
    spec: ClassVar[type[msgspec.Struct]] = CordonSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="The scheduler puts no new pod on a node; the pods there run on.",
        mechanism="spec.unschedulable of the Node, changed in the version that was looked at.",
        proof="The API server's search by field finds the node among the unschedulable ones. The controller manager's "
        "own taint (node.kubernetes.io/unschedulable) is waited for, up to 3 s, and named where it came.",
        ends=ENDS + "Only a node that still bears the effect's annotation and is still cordoned is uncordoned.",
        limits="A node that is cordoned already is refused. Whoever uncordons it meanwhile is right: it stays so. Who "
        "takes the annotation blackstart.dev/effect-cordon off takes the node over, and it stays cordoned.",
        example={"node": "worker-3"},
        source="Kubernetes API, NodeSpec; kubernetes.io, Safely Drain a Node",
    )

    def plan(self, spec: CordonSpec) -> list[Effect]:
        with planning() as api:
            found = nodes.resolve(api, spec)
        for node in found:
            if node["spec"].get("unschedulable"):
                raise RefusedError(f"node {objects.name_of(node)} is cordoned already, not by us")
        return [self._effect(node) for node in found]

    def _effect(self, node: Json) -> Effect:
        known = nodes.facts(node, "cordon")
        return effect(
            self.kind, self.undo, resource=f"node:{known['uid']}:schedulable", description=f"{known['name']} cordoned",
            touches=Touched(nodes=[known["node"]]), facts=known | {"before": False, "wanted": True},
        )  # fmt: skip

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        found, text = await seen(effect)
        return receipt(injected, confirmed=found, text=text)

    def _by_hand(self, facts: dict[str, Any]) -> str:
        return by_hand(facts)


async def seen(effect: Effect) -> tuple[bool, str]:
    """Whether the cluster finds the node among the unschedulable, and what a controller has made of that."""
    facts = effect.facts

    def look(api: Api) -> list[Json]:
        found = objects.listed(api, objects.core("nodes"), fields="spec.unschedulable=true")
        return [one for one in found if objects.uid(one) == facts["uid"]]

    def tainted(api: Api) -> bool:
        return any(taint["key"] == TAINT for one in look(api) for taint in one["spec"].get("taints") or [])

    noticed = await until(effect, tainted, _NOTICED_S)
    found = bool(await ask(effect, look))
    text = f"{facts['name']} is {'' if found else 'not '}among the unschedulable nodes"
    return found, f"{text}; its controller has {'tainted it' if noticed else f'not tainted it within {_NOTICED_S:g} s'}"


def by_hand(facts: dict[str, Any]) -> str:
    uncordon = "" if facts["before"] else f"kubectl uncordon {facts['node']}; "
    return f"{uncordon}kubectl annotate node {facts['node']} {objects.MARK}-cordon-"
