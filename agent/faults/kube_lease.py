"""A leader election's Lease, taken from its holder and renewed until it is let go.

It is released, not handed back: by then its former holder has stopped leading, and a Lease that names somebody who does
not lead keeps everybody else waiting. Released, as client-go does it, whoever campaigns takes it at once.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

from agent.faults import kube_object as objects
from agent.system.kube_wire import Api, Json, KubeError

Facts = dict[str, Any]
_RENEW_S_MAX: Final = 2.0
DURATION_S: Final = 15  # of a Lease that names none


def identity(facts: Facts) -> str:
    """As what we hold it; nobody else has this name."""
    return f"blackstart-{facts['effect']}"


def take(api: Api, facts: Facts) -> tuple[int, int]:
    def edit(found: Json) -> Json:
        spec = found["spec"]
        if spec.get("holderIdentity") == identity(facts):
            raise KubeError(f"{facts['name']} is ours already")
        now = stamp()
        transitions = int(spec.get("leaseTransitions") or 0) + 1
        ours = {
            "holderIdentity": identity(facts),
            "leaseTransitions": transitions,
            "acquireTime": now,
            "renewTime": now,
        }
        return {"spec": ours}

    answer = objects.change(api, facts["path"], facts["uid"], edit)
    if answer is None:
        raise KubeError(f"{facts['name']} (UID {facts['uid']}) is gone")
    facts["renewed_s"] = time.monotonic()
    return answer.lo_ns, answer.hi_ns


def tend(api: Api, facts: Facts) -> None:
    """Renews it, while it is ours."""
    if time.monotonic() - facts["renewed_s"] < renew_s(facts):
        return
    facts["renewed_s"] = time.monotonic()
    objects.change(api, facts["path"], facts["uid"], lambda one: _if_ours(one, facts, {"renewTime": stamp()}))


def give_back(api: Api, facts: Facts) -> None:
    free = {"holderIdentity": "", "renewTime": stamp()}
    objects.set_back(
        api, facts["path"], facts["uid"], lambda one: _if_ours(one, facts, free), effect=facts["effect"],
        settled=bool(facts.get("settled")),
    )  # fmt: skip


def left(api: Api, facts: Facts) -> str:
    found = objects.same(api, facts["path"], facts["uid"])
    return (
        f"{facts['name']} is still held by us" if found is not None and _if_ours(found, facts, {}) is not None else ""
    )


def renew_s(facts: Facts) -> float:
    return float(min(_RENEW_S_MAX, facts["lasts_s"] / 4))


def stamp() -> str:
    """Now, as MicroTime has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _if_ours(one: Json, facts: Facts, spec: Json) -> Json | None:
    return {"spec": spec} if one["spec"].get("holderIdentity") == identity(facts) else None
