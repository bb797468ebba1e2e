"""`pdb.block`: a PodDisruptionBudget forbids every eviction of some pods."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults import kube_made as made
from agent.faults import kube_object as objects
from agent.faults import kube_pods as pods
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.kube_held import ENDS, HeldKube, effect, planning, receipt, until
from agent.system.kube_wire import Api, Json
from protos.error import Problem, SpecError

_SEEN_S: Final = 5.0
_TRIED: Final = 5  # pods, before the fault


class BlockSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    namespace: objects.Namespace = "default"
    labels: Annotated[dict[str, str], Meta(min_length=1, description="labels that the pods bear, all of them")]


class PdbBlock(HeldKube):
    """A server-side dry run of an eviction is refused."""

    kind: ClassVar[str] = "pdb.block"
    spec: ClassVar[type[msgspec.Struct]] = BlockSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="Pods cannot be evicted: drains, upgrades and autoscalers that take nodes away hang.",
        mechanism="A PodDisruptionBudget of our own with maxUnavailable 0 over the pods' labels.",
        proof="The eviction of one of the pods is asked for as a dry run, and refused within 5 s for the sake of our "
        "budget by its name, or of there being two now. It is tried before the fault, too, with a pod that may be "
        "evicted where one is found among the first five; where another budget kept it already, the receipt says so.",
        ends=ENDS + "Only the budget that bears the effect's label is deleted.",
        limits="Deletions, taints and the loss of a node do not ask budgets. Pods that have not started yet may "
        "always be evicted. Where another budget covers a pod, the API server refuses its eviction for there being "
        "two.",
        example={"namespace": "shop", "labels": {"app": "web"}},
        source="Kubernetes API, PodDisruptionBudget v1; kubernetes.io, Disruptions",
    )  # fmt: skip

    def plan(self, spec: BlockSpec) -> list[Effect]:
        selector = {"matchLabels": spec.labels}
        with planning() as api:
            path = objects.core("pods", namespace=spec.namespace)
            found = [pod for pod in objects.listed(api, path, labels=objects.as_query(selector)) if _runs(pod)]
            tried, kept = _candidate(api, found)
        if not found:
            what = f"no running pod in namespace {spec.namespace} bears {objects.as_query(selector)}"
            raise SpecError(Problem("spec.labels", what, "zero targets is never a success"))
        one = effect(
            self.kind, self.undo, resource=f"pdb:{spec.namespace}:{objects.as_query(selector)}",
            description=f"evictions of {len(found)} pods in namespace {spec.namespace} forbidden",
            touches=Touched(namespaces=[spec.namespace]),
            facts=made.facts("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", spec.namespace)
            | {"change": "pdb", "tried": tried, "kept": kept},
        )  # fmt: skip
        made.name_it(one.facts, {"maxUnavailable": 0, "selector": selector})
        return [one]

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        tried, kept = effect.facts["tried"], effect.facts.get("kept", "")

        def refused(api: Api) -> str:
            answer = pods.evict(api, tried, None, dry_run=True)
            ours = [text for text in pods.causes(answer) if effect.facts["object"] in text.split()]
            return "; ".join(ours) or (answer.message if pods.several(answer) and answer.message != kept else "")

        told = await until(effect, refused, _SEEN_S)
        pod = f"pod {tried['namespace']}/{tried['pod']}"
        text = f"a dry run of the eviction of {pod} is {f'refused: {told}' if told else 'not refused'}"
        if kept:
            text += f"; before the fault it was refused already: {kept}"
        return receipt(injected, confirmed=bool(told), text=text)

    def _by_hand(self, facts: dict[str, Any]) -> str:
        return made.by_hand(facts)


def _candidate(api: Api, found: list[Json]) -> tuple[dict[str, Any], str]:
    """A pod to try, and why it could not be evicted before the fault; empty if it could."""
    told = [
        (pods.facts(pod), answer.message if pods.blocked(answer) else "") for pod in found[:_TRIED]
        for answer in (pods.evict(api, pods.facts(pod), None, dry_run=True),)
    ]  # fmt: skip
    return min(told, key=lambda one: bool(one[1])) if told else ({}, "")


def _runs(pod: dict[str, Any]) -> bool:
    return pods.lives(pod) and pod["status"].get("phase") == "Running"
