"""Removal of what a ramp made, by its label, and the proof that it is gone.

Invariant: nothing without the ramp's own label is deleted, and a namespace only where that ramp made it and nobody has
put anything into it.
"""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import quote

from agent.workloads.ramp import foreign
from agent.workloads.ramp.api import Api
from agent.workloads.ramp.spec import FOREIGN, RAMP
from protos.error import ProbeError

_LOOK_S: Final = 0.2
_CALM: Final = 2  # empty looks in a row: a request of a creator that was killed may still land
_SOURCES: Final = (  # what makes pods goes first
    ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    ("/apis/apps/v1", "deployments"),
    ("/apis/apps/v1", "replicasets"),
)


def sweep(api: Api, namespace: str, ramp: str, timeout_s: float, *, forced: bool) -> dict[str, Any]:
    """`{removed_s, left, namespace}`; *left* is empty where all is gone. *forced*: no grace for pods."""
    begun, selector = time.monotonic(), f"labelSelector={quote(f'{RAMP}={ramp}')}"
    until = begun + timeout_s
    if api.call("GET", f"/api/v1/namespaces/{namespace}", spare=404) is None:
        return {"removed_s": 0.0, "left": [], "namespace": "was not there"}
    grace = "&gracePeriodSeconds=0" if forced else ""
    calm, left = 0, list[str]()
    while calm < _CALM and time.monotonic() < until:
        left = _once(api, namespace, selector, grace)
        calm = 0 if left else calm + 1
        time.sleep(_LOOK_S)
    told = _namespace(api, namespace, ramp, until) if calm >= _CALM else "kept, since it is not empty"
    if told == "does not end":
        left.append(f"namespace {namespace}")
    return {"removed_s": time.monotonic() - begun, "left": left, "namespace": told}


def _once(api: Api, namespace: str, selector: str, grace: str) -> list[str]:
    """Orders everything away; what was there before, a few names of each."""
    left = []
    for group, kind in (*_SOURCES, ("/api/v1", "pods")):
        path = f"{group}/namespaces/{namespace}/{kind}"
        rows = _names(api, f"{path}?{selector}&limit=20")
        if rows:
            left += [f"{kind}/{row}" for row in rows]
            try:
                extra = grace if kind == "pods" else ""
                api.call("DELETE", f"{path}?{selector}&propagationPolicy=Background{extra}", spare=404)
            except ProbeError:
                time.sleep(_LOOK_S)  # busy, or cut off in the middle: asked again
    return left


def _names(api: Api, path: str) -> list[str]:
    try:
        found = api.call("GET", path, spare=404) or {}
    except ProbeError as error:
        return [f"? ({error})"]
    return [str(item["metadata"]["name"]) for item in found.get("items") or ()]


def _namespace(api: Api, namespace: str, ramp: str, until: float) -> str:
    """Ends it where the ramp made it, and nobody else uses it."""
    path = f"/api/v1/namespaces/{namespace}"
    found = api.call("GET", path, spare=404)
    if found is None:
        return "gone"
    if (found["metadata"].get("labels") or {}).get(RAMP) != ramp:
        return "kept, since it was there before"
    if others := foreign.objects(api, namespace, ramp):
        return f"{FOREIGN} {others}"
    api.call("DELETE", path, spare=404)
    while time.monotonic() < until:
        if api.call("GET", path, spare=404) is None:
            return "gone"
        time.sleep(_LOOK_S)
    return "does not end"
