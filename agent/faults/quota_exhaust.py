"""`quota.exhaust`: a namespace takes no further pod."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults import kube_made as made
from agent.faults import kube_object as objects
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.kube_held import ENDS, HeldKube, effect, planning, receipt, until
from agent.system.kube_wire import Answer, Api, Json
from protos.error import Problem, SpecError

_SEEN_S: Final = 5.0
_FORBIDDEN: Final = 403


class ExhaustSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    namespace: objects.Namespace
    headroom: Annotated[int, Meta(ge=0, le=100_000, description="how many further pods are let in all the same")] = 0


class QuotaExhaust(HeldKube):
    """A server-side dry run of one pod more is refused by that very quota."""

    kind: ClassVar[str] = "quota.exhaust"
    spec: ClassVar[type[msgspec.Struct]] = ExhaustSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="A namespace takes no further pod: rollouts, scaling and replacements beyond today's number fail.",
        mechanism="A ResourceQuota of our own, with `pods` at the number that is there when it is made (and "
        "`headroom`).",
        proof="A pod more is created as a dry run, and refused with the quota's own name, within 5 s.",
        ends=ENDS + "Only the quota that bears the effect's label is deleted.",
        limits="Pods that are there run on, and a pod that is gone may be replaced: its place is free. With "
        "`headroom` the quota is read again instead of tried. Controllers retry with growing pauses: what was refused "
        "may come some time after the end.",
        example={"namespace": "shop"},
        source="Kubernetes API, ResourceQuota; kubernetes.io, Resource Quotas",
    )  # fmt: skip

    def plan(self, spec: ExhaustSpec) -> list[Effect]:
        with planning() as api:
            found = objects.find(api, objects.core("namespaces", spec.namespace))
            if found is None or objects.is_ending(found):
                raise SpecError(Problem("spec.namespace", f"no namespace {spec.namespace}"))
            count = len(made.counted(api, spec.namespace))
        one = effect(
            self.kind, self.undo, resource=f"quota:{spec.namespace}:pods",
            description=f"namespace {spec.namespace} held to its {count} pods and {spec.headroom} more",
            touches=Touched(namespaces=[spec.namespace]),
            facts=made.facts("v1", "ResourceQuota", "resourcequotas", spec.namespace)
            | {"change": "quota", "headroom": spec.headroom},
        )  # fmt: skip
        made.name_it(one.facts, {"hard": {"pods": str(count + spec.headroom)}})
        return [one]

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts = effect.facts
        if facts["headroom"]:
            told = await until(effect, lambda api: _counts(api, facts), _SEEN_S)
            return receipt(injected, confirmed=bool(told), text=told or "the quota counts nothing yet")
        told = await until(effect, lambda api: _refusal(_tried(api, facts), facts), _SEEN_S)
        text = f"a dry run of one pod more is {f'refused: {told}' if told else 'not refused by the quota'}"
        return receipt(injected, confirmed=bool(told), text=text)

    def _by_hand(self, facts: dict[str, Any]) -> str:
        return made.by_hand(facts)


def _tried(api: Api, facts: dict[str, Any]) -> Answer:
    """The answer to a dry run of a pod that no other rule should be against."""
    small = {"cpu": "1m", "memory": "1Mi"}
    container = {
        "name": "none", "image": "blackstart.invalid/none", "resources": {"requests": small, "limits": small},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    safe = {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
    pod: Json = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{facts['object']}-more"},  # not the quota's own
        "spec": {"containers": [container], "securityContext": safe},
    }  # fmt: skip
    return api.request("POST", objects.core("pods", "", facts["namespace"]), query={"dryRun": "All"}, body=pod)


def _refusal(answer: Answer, facts: dict[str, Any]) -> str:
    """What the API server says, if it is that very quota that refuses: many things are forbidden by others."""
    told = f"exceeded quota: {facts['object']},"
    return answer.message if answer.status == _FORBIDDEN and told in answer.message else ""


def _counts(api: Api, facts: dict[str, Any]) -> str:
    """What the quota's own controller says of it."""
    status = (objects.find(api, objects.core("resourcequotas", facts["object"], facts["namespace"])) or {}).get(
        "status"
    )
    used, hard = ((status or {}).get(name, {}).get("pods") for name in ("used", "hard"))
    return f"the quota counts {used} of {hard} pods" if used and hard else ""
