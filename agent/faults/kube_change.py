"""What is changed in a Kubernetes object and set back: schedulability, taints, replicas, an image.

`take` changes an object that is as it was planned, and marks it with the effect's id; `give_back` sets back what still
bears that mark and still has the value that was set, and takes the mark off: harmless to repeat, and harmless when it
never happened, when somebody else has set another value since, or when the object is gone. All from the facts alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from agent.faults import kube_object as objects
from agent.system.kube_wire import Api, Json, KubeError

Facts = dict[str, Any]


class Change(NamedTuple):
    """One kind of change: what the object's value is, and the merge patches that set it and set it back."""

    value: Callable[[Json, Facts], Any]
    apply: Callable[[Json, Facts], Json]
    reset: Callable[[Json, Facts], Json]
    words: str


def take(api: Api, facts: Facts) -> tuple[int, int]:
    """Bounds of the instant; KubeError when the object is not as it was planned."""
    one, mark = CHANGES[facts["change"]], mark_of(facts)

    def edit(found: Json) -> Json:
        if other := _marks(found, facts).get(mark):
            raise KubeError(f"{facts['name']} bears the mark of another effect ({mark}: {other})")
        if (value := one.value(found, facts)) != facts["before"]:
            raise KubeError(f"{facts['name']} is not as it was planned any more: {value!r}, not {facts['before']!r}")
        return one.apply(found, facts) | _mark(facts, facts["effect"])

    answer = objects.change(api, facts["path"], facts["uid"], edit)
    if answer is None:
        raise KubeError(f"{facts['name']} (UID {facts['uid']}) is gone")
    return answer.lo_ns, answer.hi_ns


def give_back(api: Api, facts: Facts) -> None:
    one, mark = CHANGES[facts["change"]], mark_of(facts)

    def edit(found: Json) -> Json | None:
        if _marks(found, facts).get(mark) != facts["effect"]:
            return None  # it never took hold, or has been given back
        patch = one.reset(found, facts) if one.value(found, facts) == facts["wanted"] else {}
        return patch | _mark(facts, None)

    objects.set_back(
        api, facts["path"], facts["uid"], edit, effect=facts["effect"], settled=bool(facts.get("settled"))
    )  # fmt: skip


def left(api: Api, facts: Facts) -> str:
    found = objects.same(api, facts["path"], facts["uid"])
    if found is not None and objects.labels(found).get(objects.VOID) == facts["effect"]:
        return f"{facts['name']} still has the label {objects.VOID}"
    if found is None or _marks(found, facts).get(mark_of(facts)) != facts["effect"]:
        return ""
    return f"{facts['name']} {CHANGES[facts['change']].words}"


def foreign(api: Api, facts: Facts) -> str:
    """What somebody else has made of the value meanwhile, which was then left alone; empty if nobody did."""
    found = objects.same(api, facts["path"], facts["uid"])
    value = CHANGES[facts["change"]].value(found, facts) if found is not None else facts["before"]
    if value in (facts["before"], facts["wanted"]):
        return ""
    return f"{facts['name']} was changed by somebody else meanwhile ({value!r}) and left as they wanted it"


def mark_of(facts: Facts) -> str:
    """The key by which the effect knows what is its own."""
    return f"{objects.MARK}-{facts['change']}"


def _marks(one: Json, facts: Facts) -> dict[str, str]:
    return one["metadata"].get(facts.get("marked", "annotations")) or {}


def _mark(facts: Facts, effect: str | None) -> Json:
    return {"metadata": {facts.get("marked", "annotations"): {mark_of(facts): effect}}}


def _cordoned(one: Json, facts: Facts) -> bool:
    del facts
    return bool(one["spec"].get("unschedulable"))


def _cordon(one: Json, facts: Facts) -> Json:
    del one, facts
    return {"spec": {"unschedulable": True}}


def _uncordon(one: Json, facts: Facts) -> Json:
    del one
    return {} if facts["before"] else {"spec": {"unschedulable": None}}


def _taint(one: Json, facts: Facts) -> str | None:
    """The value of the node's taint of that key and effect; None without one."""
    found = [taint for taint in one["spec"].get("taints") or [] if _like(taint, facts)]
    return str(found[0].get("value") or "") if found else None


def _like(taint: Json, facts: Facts) -> bool:
    return bool(taint["key"] == facts["key"] and taint["effect"] == facts["taint"])


def _add_taint(one: Json, facts: Facts) -> Json:
    ours = {"key": facts["key"], "effect": facts["taint"], "value": facts["wanted"]}
    return {"spec": {"taints": [*(one["spec"].get("taints") or []), ours]}}


def _drop_taint(one: Json, facts: Facts) -> Json:
    return {"spec": {"taints": [taint for taint in one["spec"]["taints"] if not _like(taint, facts)] or None}}


def _replicas(one: Json, facts: Facts) -> int:
    del facts
    return int(one["spec"].get("replicas", 1))


def _image(one: Json, facts: Facts) -> str | None:
    return next((str(c["image"]) for c in _containers(one) if c["name"] == facts["container"]), None)


def _containers(one: Json) -> list[Json]:
    return list(one["spec"]["template"]["spec"]["containers"])


def _with_image(one: Json, facts: Facts, image: str) -> Json:
    new = [c | {"image": image} if c["name"] == facts["container"] else c for c in _containers(one)]
    return {"spec": {"template": {"spec": {"containers": new}}}}


CHANGES: Final = {
    "cordon": Change(_cordoned, _cordon, _uncordon, "is still cordoned"),
    "taint": Change(_taint, _add_taint, _drop_taint, "still has the taint"),
    "scale": Change(
        _replicas, lambda _, facts: {"spec": {"replicas": facts["wanted"]}},
        lambda _, facts: {"spec": {"replicas": facts["before"]}}, "still has the number of replicas that was set",
    ),
    "image": Change(
        _image, lambda one, facts: _with_image(one, facts, facts["wanted"]),
        lambda one, facts: _with_image(one, facts, facts["before"]), "still has the image that was set",
    ),
}  # fmt: skip
