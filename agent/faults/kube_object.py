"""Objects of a Kubernetes API: read, changed and removed without ever overwriting what somebody else did meanwhile.

Invariant: an object is known by its UID, never by its name alone, and a change is made to the very version that was
looked at (its resourceVersion). What bears Blackstart's mark says which effect's it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final

from msgspec import Meta

from agent.system.kube_wire import CONFLICT, GONE, MERGE, Answer, Api, Json, KubeError, expect

MARK: Final = "blackstart.dev/effect"  # label of what was made, and stem of the annotations on what was changed
MADE_BY: Final = {"app.kubernetes.io/managed-by": "blackstart"}
VOID: Final = "blackstart.dev/effect-void"  # label, for the moment that a change that may still come is made void
_TRIES: Final = 8  # others write the same object: a node's status, a rollout
_PAUSE_S: Final = 0.02

NAME: Final = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z"  # `$` would let a newline follow
Namespace = Annotated[str, Meta(pattern=NAME, description="namespace")]
Named = Annotated[str, Meta(pattern=NAME, description="name of the object")]


def core(kind: str, name: str = "", namespace: str = "") -> str:
    """Path of a core object, or of all of a kind."""
    return _path("/api/v1", kind, name, namespace)


def group(api: str, kind: str, name: str = "", namespace: str = "") -> str:
    """Path of an object of an API group: `apps/v1`."""
    return _path(f"/apis/{api}", kind, name, namespace)


def _path(root: str, kind: str, name: str, namespace: str) -> str:
    return root + (f"/namespaces/{namespace}" if namespace else "") + f"/{kind}" + (f"/{name}" if name else "")


def find(api: Api, path: str) -> Json | None:
    """The object, or None when there is none of that name."""
    answer = api.request("GET", path)
    return None if answer.status == GONE else expect(answer, f"read {path}").body


def listed(api: Api, path: str, *, labels: str = "", fields: str = "") -> list[Json]:
    """All that match; the API server does the matching."""
    query = {name: text for name, text in (("labelSelector", labels), ("fieldSelector", fields)) if text}
    return list(expect(api.request("GET", path, query=query), f"list {path}").body.get("items") or [])


def uid(one: Json) -> str:
    return str(one["metadata"]["uid"])


def name_of(one: Json) -> str:
    return str(one["metadata"]["name"])


def is_ending(one: Json) -> bool:
    return bool(one["metadata"].get("deletionTimestamp"))


def notes(one: Json) -> dict[str, str]:
    """Its annotations."""
    return one["metadata"].get("annotations") or {}


def labels(one: Json) -> dict[str, str]:
    return one["metadata"].get("labels") or {}


def same(api: Api, path: str, wanted: str) -> Json | None:
    """The object of that path, if it is still the one of that UID."""
    one = find(api, path)
    return one if one is not None and uid(one) == wanted else None


def change(api: Api, path: str, wanted: str, edit: Callable[[Json], Json | None]) -> Answer | None:
    """Changes the object of that UID by the merge patch that *edit* makes of it; None when there is nothing to change.

    *edit* is asked again where somebody else has written in between, and sees what they wrote.
    """
    for attempt in range(_TRIES):
        one = same(api, path, wanted)
        patch = edit(one) if one is not None else None
        if one is None or patch is None:
            return None
        version = {"uid": wanted, "resourceVersion": one["metadata"]["resourceVersion"]}
        patch = {**patch, "metadata": {**patch.get("metadata", {}), **version}}
        answer = api.request("PATCH", path, body=patch, content=MERGE)
        if answer.status == GONE:
            return None
        if answer.status != CONFLICT:
            return expect(answer, f"change {path}")
        time.sleep(_PAUSE_S * (attempt + 1))
    raise KubeError(f"change {path}: others write it all the time", CONFLICT)


def set_back(
    api: Api, path: str, wanted: str, edit: Callable[[Json], Json | None], *, effect: str, settled: bool
) -> None:
    """Changes it by *edit*; where that finds nothing and nothing is *settled*, makes void what may still come.

    A change is made to the version that was looked at: once something has been written in between, one that is still on
    its way is refused. Written is a label, and taken off again.
    """

    def back(one: Json) -> Json | None:
        return _without_void(edit(one), one, effect)

    if change(api, path, wanted, back) is not None or settled:
        return
    try:
        if change(api, path, wanted, lambda one: back(one) or {"metadata": {"labels": {VOID: effect}}}) is not None:
            change(api, path, wanted, back)
    except KubeError as error:
        if not error.denied:  # who may not write has changed nothing either
            raise


def _without_void(patch: Json | None, one: Json, effect: str) -> Json | None:
    if labels(one).get(VOID) != effect:
        return patch
    about = (patch or {}).get("metadata", {})
    return {**(patch or {}), "metadata": {**about, "labels": {**about.get("labels", {}), VOID: None}}}


def make(api: Api, path: str, document: Json) -> Answer:
    """Creates an object; *path* is that of its kind."""
    return expect(api.request("POST", path, body=document), f"create {document['metadata']['name']}")


def remove(api: Api, path: str, effect: str) -> None:
    """Deletes what *effect* made, and nothing else that bears the name."""
    one = find(api, path)
    if one is None or is_ending(one) or labels(one).get(MARK) != effect:
        return
    body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid(one)}}
    answer = api.request("DELETE", path, body=body)
    if answer.status not in (GONE, CONFLICT):  # gone meanwhile, or another one by now
        expect(answer, f"delete {path}")


def matches(selector: Json, marks: dict[str, str]) -> bool:
    """Whether a label selector (matchLabels, matchExpressions) selects what bears the labels *marks*."""
    plain = (selector.get("matchLabels") or {}).items()
    return all(marks.get(key) == value for key, value in plain) and all(
        _expressed(one, marks) for one in selector.get("matchExpressions") or []
    )


def _expressed(one: Json, marks: dict[str, str]) -> bool:
    key, values = one["key"], one.get("values") or []
    found: dict[str, bool] = {
        "In": marks.get(key) in values, "NotIn": marks.get(key) not in values,
        "Exists": key in marks, "DoesNotExist": key not in marks,
    }  # fmt: skip
    return found.get(one["operator"], False)


def as_query(selector: Json) -> str:
    """A label selector as the API's query parameter has it."""
    forms: dict[str, Callable[[str, str], str]] = {
        "In": "{} in ({})".format, "NotIn": "{} notin ({})".format,
        "Exists": lambda key, _: key, "DoesNotExist": lambda key, _: f"!{key}",
    }  # fmt: skip
    plain = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    rich: Iterable[Any] = selector.get("matchExpressions") or []
    return ",".join([*plain, *(forms[one["operator"]](one["key"], ",".join(one.get("values") or [])) for one in rich)])


def covered(api: Api, pods: Iterable[Json]) -> list[str]:
    """The PodDisruptionBudgets that cover any of *pods*, in words."""
    found, budgets = [], dict[str, list[Json]]()
    for pod in pods:
        space = pod["metadata"]["namespace"]
        if space not in budgets:
            budgets[space] = listed(api, group("policy/v1", "poddisruptionbudgets", namespace=space))
        found += [
            f"pod {space}/{name_of(pod)}: PodDisruptionBudget {name_of(one)} covers it"
            for one in budgets[space] if matches(one["spec"].get("selector") or {}, labels(pod))
        ]  # fmt: skip
    return found
