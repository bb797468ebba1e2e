"""Which pods a fault means, and what ends one: deletion or eviction, of that very pod."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from agent.faults import kube_object as objects
from agent.system.kube_wire import CONFLICT, GONE, TOO_MANY, Answer, Api, Json, KubeError, expect
from protos.error import Problem, RefusedError, SpecError

MIRROR: Final = "kubernetes.io/config.mirror"
_SEVERAL_BUDGETS: Final = 500  # how the API server refuses to evict a pod of more than one PodDisruptionBudget
_BUDGET: Final = "DisruptionBudget"
Seed = Annotated[int, Meta(description="of the choice among those that match")]
Pick = Annotated[int, Meta(ge=0, description="how many of those that match; 0: all")]
Selector = Annotated[str, Meta(description="label selector, as for kubectl: `app=web,tier!=db`")]


class PodsSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Pods of one namespace: exactly one of *name* and *selector*."""

    namespace: objects.Namespace = "default"
    name: Annotated[str, Meta(pattern=r"^\Z|" + objects.NAME, description="the pod's name")] = ""
    selector: Selector = ""
    node: Annotated[str, Meta(pattern=r"^\Z|" + objects.NAME, description="only pods on this node")] = ""
    pick: Pick = 1
    seed: Seed = 0


def resolve(api: Api, spec: PodsSpec) -> list[Json]:
    """The pods that are meant, at least one: those that have neither ended nor are about to."""
    if bool(spec.name) == bool(spec.selector):
        raise SpecError(Problem("spec", "exactly one of name and selector must name the pods"))
    fields = [text for text in (f"metadata.name={spec.name}" * bool(spec.name),
                                f"spec.nodeName={spec.node}" * bool(spec.node)) if text]  # fmt: skip
    path = objects.core("pods", namespace=spec.namespace)
    found = [one for one in objects.listed(api, path, labels=spec.selector, fields=",".join(fields)) if lives(one)]
    if not found:
        what = f"no live pod {spec.name or spec.selector!r} in namespace {spec.namespace}"
        raise SpecError(Problem(f"spec.{'name' if spec.name else 'selector'}", what, "zero targets is never a success"))
    return picked(found, spec.pick, spec.seed)


def picked(found: Sequence[Json], count: int, seed: int) -> list[Json]:
    """*count* of them (0: all), the same for the same seed and the same candidates."""
    ordered = sorted(found, key=objects.name_of)
    if not count or count >= len(ordered):
        return ordered
    return random.Random(seed).sample(ordered, count)  # noqa: S311 - a choice that can be repeated


def lives(pod: Json) -> bool:
    return pod["status"].get("phase") not in ("Succeeded", "Failed") and not objects.is_ending(pod)


def owner(pod: Json) -> str:
    """What would bring another one: `ReplicaSet/web-5d9f`; empty for a pod on its own."""
    found = [one for one in pod["metadata"].get("ownerReferences") or [] if one.get("controller")]
    return f"{found[0]['kind']}/{found[0]['name']}" if found else ""


def place(pod: Json) -> str:
    return f"{pod['metadata']['namespace']}/{objects.name_of(pod)}"


def refuse_lonely(pods: Sequence[Json], *, force: bool) -> None:
    """RefusedError for pods that nothing brings back, unless *force*; for mirrors of static pods always."""
    for pod in pods:
        if MIRROR in objects.notes(pod):
            raise RefusedError(f"pod {place(pod)} mirrors a static pod: its node's kubelet alone can end it")
        if not owner(pod) and not force:
            raise RefusedError(f"pod {place(pod)} has no owner that would bring another one (`force: true` takes it)")


def facts(pod: Json) -> dict[str, Any]:
    """What is needed to know the pod again."""
    return {
        "namespace": pod["metadata"]["namespace"], "pod": objects.name_of(pod), "uid": objects.uid(pod),
        "node": pod["spec"].get("nodeName", ""), "owner": owner(pod),
    }  # fmt: skip


def path_of(known: dict[str, Any]) -> str:
    return objects.core("pods", known["pod"], known["namespace"])


def current(api: Api, known: dict[str, Any]) -> Json | None:
    """The pod, if that very one is still there."""
    return objects.same(api, path_of(known), known["uid"])


def delete(api: Api, known: dict[str, Any], grace_s: int | None) -> Answer:
    """Deletes that very pod; KubeError if it is not there any more."""
    answer = api.request("DELETE", path_of(known), body=_options(known, grace_s))
    return _done(answer, known)


def evict(api: Api, known: dict[str, Any], grace_s: int | None, *, dry_run: bool = False) -> Answer:
    """Asks for the eviction of that very pod: the API server refuses what a PodDisruptionBudget forbids.

    The answer is returned if it is a good one or such a refusal (`blocked`).
    """
    name = {"name": known["pod"], "namespace": known["namespace"]}
    options = _options(known, grace_s) | ({"dryRun": ["All"]} if dry_run else {})
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": name, "deleteOptions": options}
    query = {"dryRun": "All"} if dry_run else {}
    answer = api.request("POST", f"{path_of(known)}/eviction", query=query, body=body)
    return answer if blocked(answer) else _done(answer, known)


def blocked(answer: Answer) -> bool:
    """Whether an eviction was refused for the sake of a PodDisruptionBudget."""
    return (answer.status == TOO_MANY and bool(causes(answer))) or several(answer)


def several(answer: Answer) -> bool:
    """Whether it was refused because more than one budget covers the pod, whatever they say."""
    return answer.status == _SEVERAL_BUDGETS and "PodDisruptionBudget" in answer.message


def causes(answer: Answer) -> list[str]:
    """What the API server says of the budgets: one that has too much to do answers 429, too."""
    found = (answer.body.get("details") or {}).get("causes") or []
    return [str(one.get("message", "")) for one in found if one.get("reason") == _BUDGET]


def vanished(error: KubeError) -> bool:
    """Whether a request failed because that very pod is not there any more."""
    return error.status in (GONE, CONFLICT)


def _options(known: dict[str, Any], grace_s: int | None) -> Json:
    options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": known["uid"]}}
    return options if grace_s is None else options | {"gracePeriodSeconds": grace_s}


def _done(answer: Answer, known: dict[str, Any]) -> Answer:
    what = f"pod {known['namespace']}/{known['pod']}"
    if answer.status in (GONE, CONFLICT):
        raise KubeError(f"{what} (UID {known['uid']}) is not there any more", answer.status)
    return expect(answer, what)
