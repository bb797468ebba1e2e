"""`deployment.scale`: a deployment has another number of replicas for a while."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults import kube_deployments as deployments
from agent.faults import kube_object as objects
from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.faults.kube_held import ENDS, HeldKube, planning, receipt, until
from agent.system.kube_wire import Api, Json
from protos.error import Problem, RefusedError, SpecError

_REACHED_S: Final = 10.0


class ScaleSpec(deployments.DeploymentSpec, kw_only=True, forbid_unknown_fields=True):
    replicas: Annotated[int, Meta(ge=0, le=100_000, description="how many it has while the fault lasts")]
    force: Annotated[bool, Meta(description="also where a HorizontalPodAutoscaler has the last word")] = False


class DeploymentScale(HeldKube):
    """The pods themselves are counted, not what the deployment says of them."""

    kind: ClassVar[str] = "deployment.scale"
    spec: ClassVar[type[msgspec.Struct]] = ScaleSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="A deployment has more replicas, fewer, or none for a while.",
        mechanism="spec.replicas of the Deployment, changed in the version that was looked at.",
        proof="The pods that its selector matches are counted, without those that are ending, up to 10 s.",
        ends=ENDS + "Only a deployment that still bears the effect's label and the number that was set gets its own "
        "number back.",
        limits="The number is set back; which pods there are is the cluster's matter. Kubernetes asks no "
        "PodDisruptionBudget when it scales down: where the policy respects budgets, a fault that takes more pods than "
        "a budget over them lets go when it is planned is refused. A deployment that a HorizontalPodAutoscaler scales "
        "is refused unless `force` is given: what the autoscaler sets meanwhile stays.",
        example={"namespace": "shop", "name": "web", "replicas": 0},
        source="Kubernetes API, DeploymentSpec and HorizontalPodAutoscaler v2",
    )

    def plan(self, spec: ScaleSpec) -> list[Effect]:
        with planning() as api:
            found = deployments.resolve(api, spec)
            scalers = _autoscalers(api, spec)
            known = deployments.facts(found, "scale")
            against = _against(api, known, spec.replicas)
        before = int(found["spec"].get("replicas", 1))
        known |= {"before": before, "wanted": spec.replicas}
        if before == spec.replicas:
            raise SpecError(Problem("spec.replicas", f"deployment {spec.name} has {before} replicas already"))
        if scalers and not spec.force:
            raise RefusedError(f"deployment {spec.name} is scaled by {', '.join(scalers)} (`force: true` takes it)")
        effect = deployments.effect(self.kind, self.undo, known, f"scaled from {before} to {spec.replicas}")
        effect.touches.budgets = against
        return [effect]

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts = effect.facts
        count = -1

        def reached(api: Api) -> bool:
            nonlocal count
            count = len(deployments.pods(api, facts))
            return bool(count == facts["wanted"])

        there = await until(effect, reached, _REACHED_S)
        text = (
            f"{count} of its pods are there and not ending, {facts['wanted']} were asked for, {facts['before']} before"
        )
        return receipt(injected, confirmed=there, text=text)

    def _by_hand(self, facts: dict[str, Any]) -> str:
        scale = f"kubectl -n {facts['namespace']} scale deployment {facts['object']} --replicas={facts['before']}"
        return f"{scale}; {deployments.unmark(facts)}"


def _against(api: Api, known: dict[str, Any], wanted: int) -> list[str]:
    """The budgets that would let fewer of its pods be evicted than the scaling takes."""
    own = deployments.pods(api, known)
    less = len(own) - wanted
    if less <= 0:
        return []
    path = objects.group("policy/v1", "poddisruptionbudgets", namespace=known["namespace"])
    return [
        f"PodDisruptionBudget {objects.name_of(one)} lets {free} pods go, {known['name']} would lose {less}"
        for one in objects.listed(api, path)
        if any(objects.matches(one["spec"].get("selector") or {}, objects.labels(pod)) for pod in own)
        and (free := int((one.get("status") or {}).get("disruptionsAllowed", 0))) < less
    ]


def _autoscalers(api: Api, spec: ScaleSpec) -> list[str]:
    """Those that have the deployment as their target."""
    found = objects.listed(api, objects.group("autoscaling/v2", "horizontalpodautoscalers", namespace=spec.namespace))
    return [f"HorizontalPodAutoscaler {objects.name_of(one)}" for one in found if _scales(one, spec.name)]


def _scales(one: Json, name: str) -> bool:
    target = one["spec"]["scaleTargetRef"]
    return bool(target["kind"] == "Deployment" and target["name"] == name)
