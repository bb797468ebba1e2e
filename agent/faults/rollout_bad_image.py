"""`rollout.bad_image`: a deployment is rolled out to an image that cannot be pulled."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults import kube_deployments as deployments
from agent.faults import kube_object as objects
from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.faults.kube_held import ENDS, HeldKube, ask, planning, receipt, until
from agent.system.kube_wire import Api, Json
from protos.error import Problem, RefusedError, SpecError

_PULL: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_PLAYED: Final = "kwok.x-k8s.io/node"
_SEEN_S: Final = 15.0
_NOWHERE: Final = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)+invalid(:[0-9]{1,5})?/[A-Za-z0-9][-A-Za-z0-9._/:@]*\Z"


class BadImageSpec(deployments.DeploymentSpec, kw_only=True, forbid_unknown_fields=True):
    container: Annotated[str, Meta(pattern=r"^\Z|" + objects.NAME, description="which; empty: the first")] = ""
    image: Annotated[
        str,
        Meta(
            max_length=500,
            pattern=rf"^\Z|{_NOWHERE}",
            description="what cannot be pulled: of a registry below .invalid; empty: a name of our own",
        ),
    ] = ""


class RolloutBadImage(HeldKube):
    """A pod of the new template waits, and its node says that the image cannot be pulled."""

    kind: ClassVar[str] = "rollout.bad_image"
    spec: ClassVar[type[msgspec.Struct]] = BadImageSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="A deployment is rolled out to an image that cannot be pulled: a bad release.",
        mechanism="The image of one container in the Deployment's template, changed in the version that was looked "
        "at; its registry is one below .invalid, which resolves nowhere (RFC 2606): no experiment chooses code.",
        proof="A pod with that image waits, and its node says ErrImagePull or ImagePullBackOff, within 15 s. On a "
        "node that KWOK plays nothing is pulled: there the receipt says that it rests on the rollout alone.",
        ends=ENDS + "Only a container that still has that image gets its own back, in a deployment that still bears "
        "the effect's label; what else was changed in the template meanwhile stays.",
        limits="How many old pods stay is the deployment's own rollout strategy: with Recreate none does. The change "
        "and the return are rollouts of their own and count as revisions: afterwards the revision before is the bad "
        "one, so name another to `kubectl rollout undo` (`--to-revision`). No PodDisruptionBudget is asked, as for "
        "any rollout. A paused deployment is refused. Whoever "
        "applies a manifest meanwhile (a GitOps controller) ends the fault, and that stays.",
        example={"namespace": "shop", "name": "web"},
        source="Kubernetes API, DeploymentSpec; kubernetes.io, Images",
    )  # fmt: skip

    def plan(self, spec: BadImageSpec) -> list[Effect]:
        with planning() as api:
            found = deployments.resolve(api, spec)
        if found["spec"].get("paused"):
            raise RefusedError(f"deployment {spec.name} is paused: nothing would be rolled out")
        containers = {one["name"]: one["image"] for one in found["spec"]["template"]["spec"]["containers"]}
        name = spec.container or next(iter(containers))
        if name not in containers:
            names = ", ".join(containers)
            raise SpecError(
                Problem("spec.container", f"no container {name!r} in deployment {spec.name}: it has {names}")
            )
        known = deployments.facts(found, "image") | {"container": name, "before": containers[name]}
        effect = deployments.effect(self.kind, self.undo, known, f"rolled out with a bad image of {name}")
        effect.facts["wanted"] = spec.image or f"blackstart.invalid/none:{effect.id}"
        if effect.facts["wanted"] == containers[name]:
            raise SpecError(Problem("spec.image", f"container {name} has that image already"))
        return [effect]

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts = effect.facts
        told = await until(effect, lambda api: _waiting(api, facts) or _running(api, facts), _SEEN_S)
        if not told:
            count = len(await ask(effect, lambda api: _ours(api, facts)))
            told = f"{count} pods have the image {facts['wanted']}, and no node has said anything of it"
            return receipt(injected, confirmed=False, text=told)
        return receipt(injected, confirmed=not told.startswith("the image could"), text=told)

    def _by_hand(self, facts: dict[str, Any]) -> str:
        image = f"{facts['container']}={facts['before']}"
        back = f"kubectl -n {facts['namespace']} set image deployment {facts['object']} {image}"
        return f"{back}; {deployments.unmark(facts)}"


def _ours(api: Api, facts: dict[str, Any]) -> list[Json]:
    """The deployment's pods that have the bad image."""
    bad = (facts["container"], facts["wanted"])
    found = deployments.pods(api, facts)
    return [pod for pod in found if bad in {(one["name"], one["image"]) for one in pod["spec"]["containers"]}]


def _statuses(api: Api, facts: dict[str, Any]) -> list[tuple[Json, Json]]:
    return [
        (pod, status["state"]) for pod in _ours(api, facts)
        for status in pod["status"].get("containerStatuses") or [] if status["name"] == facts["container"]
    ]  # fmt: skip


def _waiting(api: Api, facts: dict[str, Any]) -> str:
    """What a node says of a pod that cannot get the image; empty if none says so."""
    for pod, state in _statuses(api, facts):
        if (reason := (state.get("waiting") or {}).get("reason")) in _PULL:
            return f"pod {objects.name_of(pod)} waits: {reason} of {facts['wanted']}"
    return ""


def _running(api: Api, facts: dict[str, Any]) -> str:
    """Of a pod that runs with it all the same: a played node proves nothing, any other that there is no fault."""
    for pod, state in _statuses(api, facts):
        if "running" not in state:
            continue
        name = pod["spec"]["nodeName"]
        node = objects.find(api, objects.core("nodes", name))
        if node is not None and _PLAYED in objects.notes(node):
            return f"a rollout to {facts['wanted']} is under way; node {name} is played: nothing is pulled there"
        return f"the image could be pulled: pod {objects.name_of(pod)} runs with {facts['wanted']}"
    return ""
