"""What the API server says of a service, a deployment or pods, and what has changed since. Pure.

Invariant: of one object, what is told in a change is the difference between two states that the server gave out; the
server's own timestamps are handed on as they are, with their resolution of 1 s, and nothing is computed from them.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import quote

Json = dict[str, Any]
SERVICE_LABEL: Final = "kubernetes.io/service-name"
TRIGGERED: Final = "endpoints.kubernetes.io/last-change-trigger-time"  # when the pods changed, by their own stamps
_COUNTS: Final = ("replicas", "updatedReplicas", "availableReplicas")
NOBODY: Final = "blackstart-liveness"  # a name that nothing has: to ask for it costs the server next to nothing


class Change(NamedTuple):
    """*api_time*: the API server's own stamp, empty where it keeps none."""

    mark: str
    path: str
    text: str
    api_time: str


class State(NamedTuple):
    """*found* of *wanted*, and whether that is good."""

    good: bool
    found: int
    wanted: int


class View(abc.ABC):
    """Objects of one resource in a namespace, each reduced to facts: name of the fact to the server's stamp of it."""

    group: ClassVar[str]  # path of the API
    resource: ClassVar[str]
    words: ClassVar[dict[str, tuple[str, str]]]  # of a fact: the mark when it becomes true, and when it ceases to be

    def __init__(self, namespace: str, name: str, least: int) -> None:
        self._name, self._least = name, least
        self.path = f"{self.group}/namespaces/{quote(namespace, safe='')}/{self.resource}"
        self.facts: dict[str, dict[str, dict[str, str]]] = {}  # by object, by part of it

    @property
    def picked(self) -> dict[str, str]:
        """The query that picks these objects."""
        return {"labelSelector": self._name}

    @property
    def asked(self) -> dict[str, str]:
        """The query by which to ask whether the server still answers: of one object at most."""
        return {"fieldSelector": f"metadata.name={NOBODY}"}

    @abc.abstractmethod
    def parts(self, document: Json) -> dict[str, dict[str, str]]:
        """Facts of each part of an object: part's path to fact to stamp."""

    @abc.abstractmethod
    def state(self) -> State: ...

    def take(self, document: Json, *, deleted: bool = False) -> list[Change]:
        """One object as it is now, or as it last was."""
        name = document["metadata"]["name"]
        before = self.facts.pop(name, {})
        now = {} if deleted else self.parts(document)
        if not deleted:
            self.facts[name] = now
        return [change for part in [*before, *(part for part in now if part not in before)]
                for change in self._changes(part, before.get(part), now.get(part))]  # fmt: skip

    def replace(self, documents: Iterable[Json]) -> list[Change]:
        """All objects as they are now."""
        fresh = {document["metadata"]["name"]: document for document in documents}
        gone = [name for name in self.facts if name not in fresh]
        changes = [change for name in gone for change in self.take({"metadata": {"name": name}}, deleted=True)]
        return changes + [change for document in fresh.values() for change in self.take(document)]

    def _changes(self, part: str, before: dict[str, str] | None, now: dict[str, str] | None) -> Iterator[Change]:
        path, _, number = part.partition("#")
        if now is None:
            yield Change(self.words["there"][1], path, f"uid {number}", "")
            return
        for fact, (begins, ends) in self.words.items():
            old, new = (before or {}).get(fact), now.get(fact)
            if (old is None) == (new is None) and (fact != "restarted" or old == new):
                continue
            stamp = now.get(f"not_{fact}", "") if new is None else new
            stamp = stamp.partition("|")[2] or stamp
            told = (now.get("why", ""), f"{stamp} by the API server" if stamp else "")
            yield Change(begins if new is not None else ends, path, "; ".join(filter(None, told)), stamp)


class Pods(View):
    """Pods by label: how many of them are Running and Ready, and are not being deleted."""

    group, resource = "/api/v1", "pods"
    words: ClassVar = {
        "there": ("pod_created", "pod_gone"), "scheduled": ("pod_scheduled", "pod_unscheduled"),
        "started": ("pod_started", "pod_unstarted"), "restarted": ("pod_restarted", "pod_restarted"),
        "ready": ("pod_ready", "pod_unready"), "deleting": ("pod_deleting", "pod_kept"),
    }  # fmt: skip

    def parts(self, document: Json) -> dict[str, dict[str, str]]:
        meta, status = document["metadata"], document.get("status") or {}
        facts = {"there": meta.get("creationTimestamp") or "", "phase": status.get("phase") or ""}
        if status.get("startTime"):
            facts["started"] = status["startTime"]
        facts |= _condition(status, "PodScheduled", "scheduled") | _condition(status, "Ready", "ready")
        if count := sum(one.get("restartCount") or 0 for one in status.get("containerStatuses") or ()):
            facts["restarted"] = f"{count}|{_began(status)}"
        if meta.get("deletionTimestamp"):
            facts["deleting"] = meta["deletionTimestamp"]  # when it is to be gone: the request and its grace
            facts["why"] = f"grace {meta.get('deletionGracePeriodSeconds') or 0} s"
        return {f"pods/{meta['name']}#{meta.get('uid') or ''}": facts}

    def state(self) -> State:
        count = sum(
            "ready" in facts and facts["phase"] == "Running" and "deleting" not in facts
            for parts in self.facts.values()
            for facts in parts.values()
        )
        return State(count >= self._least, count, self._least)


class Endpoints(View):
    """Ready endpoints of a service, over all of its EndpointSlices; one with two addresses counts once."""

    group, resource = "/apis/discovery.k8s.io/v1", "endpointslices"
    words: ClassVar = {
        "there": ("endpoint_added", "endpoint_gone"), "ready": ("endpoint_ready", "endpoint_unready"),
    }  # fmt: skip

    @property
    def picked(self) -> dict[str, str]:
        return {"labelSelector": f"{SERVICE_LABEL}={self._name}"}

    def parts(self, document: Json) -> dict[str, dict[str, str]]:
        stamp = (document["metadata"].get("annotations") or {}).get(TRIGGERED) or ""
        found = {}
        for endpoint in document.get("endpoints") or ():
            target = endpoint.get("targetRef") or {}
            address = (endpoint.get("addresses") or [""])[0]
            facts = {"there": stamp, "why": address, "not_ready": stamp}
            if (endpoint.get("conditions") or {}).get("ready") is not False:  # unknown counts as ready: so says the API
                facts["ready"] = stamp
            found[f"endpoints/{target.get('name') or address}#{target.get('uid') or address}"] = facts
        return found

    def state(self) -> State:
        ready = {part for parts in self.facts.values() for part, facts in parts.items() if "ready" in facts}
        return State(len(ready) >= self._least, len(ready), self._least)


class Deployment(View):
    """One deployment: complete as `kubectl rollout status` has it, or so many pods available."""

    group, resource = "/apis/apps/v1", "deployments"
    words: ClassVar = {
        "there": ("deployment_created", "deployment_gone"),
        "available": ("deployment_available", "deployment_unavailable"),
        "complete": ("rollout_complete", "rollout_incomplete"),
    }  # fmt: skip

    @property
    def picked(self) -> dict[str, str]:
        return {"fieldSelector": f"metadata.name={self._name}"}

    @property
    def asked(self) -> dict[str, str]:
        return self.picked

    def parts(self, document: Json) -> dict[str, dict[str, str]]:
        meta, status = document["metadata"], document.get("status") or {}
        wanted = (document.get("spec") or {}).get("replicas", 1)
        total, updated, available = (status.get(key) or 0 for key in _COUNTS)
        facts = {"there": meta.get("creationTimestamp") or "", "count": str(available), "wanted": str(wanted)}
        facts |= _condition(status, "Available", "available")
        stamp = _updated(status)
        facts |= {"not_complete": stamp, "why": f"{updated} updated, {available} available of {wanted}"}
        observed = (status.get("observedGeneration") or 0) >= (meta.get("generation") or 0)
        if observed and wanted and total == updated == available == wanted:  # none is never good
            facts["complete"] = stamp
        return {f"deployments/{meta['name']}#{meta.get('uid') or ''}": facts}

    def state(self) -> State:
        for parts in self.facts.values():
            for facts in parts.values():
                count, wanted = int(facts["count"]), int(facts["wanted"])
                good = count >= self._least if self._least else "complete" in facts
                return State(good, count, self._least or wanted)
        return State(False, 0, self._least)


def view(spec: Json) -> View:
    """The view that a spec of the probe asks for."""
    space = spec["namespace"]
    if spec.get("service"):
        return Endpoints(space, spec["service"], spec.get("ready_min") or 1)
    if spec.get("deployment"):
        return Deployment(space, spec["deployment"], spec.get("available_min") or 0)
    return Pods(space, spec["selector"], spec.get("ready_min") or 1)


def _condition(status: Json, kind: str, fact: str) -> dict[str, str]:
    """A condition as a fact: its stamp under the fact's name while it is true, else under its negation."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == kind:
            name = fact if condition.get("status") == "True" else f"not_{fact}"
            return {name: condition.get("lastTransitionTime") or ""}
    return {}


def _updated(status: Json) -> str:
    """When the deployment last progressed, by its own condition."""
    return next(
        (one.get("lastUpdateTime") or "" for one in status.get("conditions") or () if one.get("type") == "Progressing"),
        "",
    )


def _began(status: Json) -> str:
    """When the youngest of its containers began to run."""
    running = [(one.get("state") or {}).get("running") or {} for one in status.get("containerStatuses") or ()]
    return max((one.get("startedAt") or "" for one in running), default="")
