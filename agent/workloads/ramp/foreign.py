"""What others have put into a namespace that a ramp made.

Invariant: what could not be looked at counts as theirs; what every namespace has counts as nobody's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from agent.workloads.ramp.api import Api
from agent.workloads.ramp.spec import RAMP
from protos.error import ProbeError, RefusedError

_NOBODYS: Final = ("events", "podmetrics")  # what is told of objects, not objects
_DERIVED: Final = "metrics.k8s.io"
_GIVEN: Final = {("configmaps", "kube-root-ca.crt"), ("serviceaccounts", "default")}
_LOOK: Final = 10


def objects(api: Api, namespace: str, ramp: str) -> str:
    """A few of them for a human, or what could not be looked at; empty where there are none."""
    found: list[str] = []
    selector = quote(f"{RAMP}!={ramp}")
    try:
        for group, resource in _listable(api):
            rows = api.call("GET", f"{group}/namespaces/{namespace}/{resource}?labelSelector={selector}&limit={_LOOK}")
            names = (str(row["metadata"]["name"]) for row in rows.get("items") or ())
            found += [f"{resource}/{name}" for name in names if (resource, name) not in _GIVEN]
    except (ProbeError, RefusedError) as error:
        return f"what could not be looked at: {error}"
    return ", ".join(found[:5])


def _listable(api: Api) -> Iterator[tuple[str, str]]:
    """Path of the API and plural of each kind that a namespace may hold, at one version."""
    groups: list[dict[str, Any]] = api.call("GET", "/apis")["groups"]
    paths = ["/api/v1"] + [f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups
                           if not group["name"].endswith(_DERIVED)]  # fmt: skip
    for path in paths:
        for one in api.call("GET", path)["resources"]:
            if one["namespaced"] and "list" in one["verbs"] and one["name"] not in _NOBODYS:
                yield path, one["name"]
