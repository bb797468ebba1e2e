"""What is made in Kubernetes for a fault, and removed: a PodDisruptionBudget, a ResourceQuota.

The object's name and label carry the effect's id: what bears another is not touched.
"""

from __future__ import annotations

import time
from typing import Any, Final

from agent.faults import kube_object as objects
from agent.system.kube_wire import Api, Json

Facts = dict[str, Any]
_LATE_S: Final = 2.0  # a request that the server has and that nobody waits for is carried out by then, if at all
_LOOK_S: Final = 0.2


def facts(api: str, kind: str, plural: str, namespace: str) -> Facts:
    """Of an object to be made; `name_it` completes them."""
    return {"api": api, "kind": kind, "plural": plural, "namespace": namespace}


def name_it(facts: Facts, spec: Json) -> None:
    """Names the object after the effect, and marks it."""
    name = f"blackstart-{facts['effect']}"
    labels = objects.MADE_BY | {objects.MARK: facts["effect"]}
    facts["object"] = name
    facts["document"] = {
        "apiVersion": facts["api"], "kind": facts["kind"], "metadata": {"name": name, "labels": labels}, "spec": spec,
    }  # fmt: skip


def take(api: Api, facts: Facts) -> tuple[int, int]:
    """Bounds of the instant at which it was made."""
    document = facts["document"]
    if facts["change"] == "quota":
        used = len(counted(api, facts["namespace"])) + facts["headroom"]
        document = document | {"spec": {"hard": {"pods": str(used)}}}
    answer = objects.make(api, _path(facts, ""), document)
    return answer.lo_ns, answer.hi_ns


def give_back(api: Api, facts: Facts) -> None:
    """Removes it; where it is not known to have been made or refused, it is waited for, since it may come late."""
    until = time.monotonic() + _LATE_S
    while not _found(api, facts) and not facts.get("settled") and time.monotonic() < until:
        time.sleep(_LOOK_S)
    objects.remove(api, _path(facts, facts["object"]), facts["effect"])


def left(api: Api, facts: Facts) -> str:
    return f"{facts['kind']} {facts['namespace']}/{facts['object']} is still there" if _found(api, facts) else ""


def _found(api: Api, facts: Facts) -> bool:
    found = objects.find(api, _path(facts, facts["object"]))
    return found is not None and objects.labels(found).get(objects.MARK) == facts["effect"]


def counted(api: Api, namespace: str) -> list[Json]:
    """The pods that a quota counts: those that have not ended."""
    found = objects.listed(api, objects.core("pods", namespace=namespace))
    return [pod for pod in found if pod["status"].get("phase") not in ("Succeeded", "Failed")]


def by_hand(facts: Facts) -> str:
    return f"kubectl -n {facts['namespace']} delete {facts['plural']} {facts['object']}"


def _path(facts: Facts, name: str) -> str:
    make = objects.core if facts["api"] == "v1" else None
    if make is not None:
        return make(facts["plural"], name, facts["namespace"])
    return objects.group(facts["api"], facts["plural"], name, facts["namespace"])
