"""Which deployment a fault means, and the pods that are its own."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.faults import kube_held
from agent.faults import kube_object as objects
from agent.faults.base import Effect, Touched, Undo
from agent.system.kube_wire import Api, Json
from protos.error import Problem, SpecError


class DeploymentSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One deployment."""

    namespace: objects.Namespace = "default"
    name: objects.Named


def resolve(api: Api, spec: DeploymentSpec) -> Json:
    """The deployment; SpecError if there is none."""
    found = objects.find(api, objects.group("apps/v1", "deployments", spec.name, spec.namespace))
    if found is None or objects.is_ending(found):
        what = f"no deployment {spec.name} in namespace {spec.namespace}"
        raise SpecError(Problem("spec.name", what, "zero targets is never a success"))
    return found


def facts(one: Json, change: str) -> dict[str, Any]:
    """What is needed to change it and set it back."""
    name, namespace = objects.name_of(one), one["metadata"]["namespace"]
    return {
        "change": change, "path": objects.group("apps/v1", "deployments", name, namespace), "uid": objects.uid(one),
        "object": name, "namespace": namespace, "name": f"deployment {namespace}/{name}",
        "selector": objects.as_query(one["spec"]["selector"]),
        "marked": "labels",  # annotations are copied to ReplicaSets, and come back with `kubectl rollout undo`
    }  # fmt: skip


def effect(kind: str, undo: Undo, known: dict[str, Any], what: str) -> Effect:
    """An effect on it."""
    return kube_held.effect(
        kind, undo, resource=f"deployment:{known['uid']}:{known['change']}", description=f"{known['name']} {what}",
        touches=Touched(namespaces=[known["namespace"]]), facts=known,
    )  # fmt: skip


def pods(api: Api, known: dict[str, Any]) -> list[Json]:
    """Its pods that are not ending."""
    path = objects.core("pods", namespace=known["namespace"])
    return [pod for pod in objects.listed(api, path, labels=known["selector"]) if not objects.is_ending(pod)]


def unmark(known: dict[str, Any]) -> str:
    """What a human tells kubectl once the value is as before."""
    return f"kubectl -n {known['namespace']} label deployment {known['object']} {objects.MARK}-{known['change']}-"
