"""What tests of the faults in a cluster share: the plane in the environment, and one effect taken by hand."""

from __future__ import annotations

import time
from typing import Any

from agent.faults import registry
from agent.faults.base import Effect, Receipt
from agent.policy import Policy
from agent.system import proc
from tests.chaos import kube_eye
from tests.chaos.kube_eye import Eye


def planned(kind: str, spec: dict[str, Any], *, duration_s: float = 30.0) -> tuple[Any, Effect]:
    """A fault and the one effect that *spec* means."""
    faults = registry.all_faults()
    (effect,) = registry.plan(faults, kind, spec)
    effect.boot_id = proc.boot_id()
    effect.deadline_ns = time.monotonic_ns() + int(duration_s * 1e9)
    return faults[kind], effect


async def in_force(kind: str, spec: dict[str, Any]) -> tuple[Any, Effect, Receipt]:
    """The same, put in force and observed."""
    fault, effect = planned(kind, spec)
    return fault, effect, await put(fault, effect)


async def put(fault: Any, effect: Effect) -> Receipt:
    fault.prepare(effect)
    injected = await fault.inject(effect)
    return await fault.observe(effect, injected)


def allowed(effect: Effect, **policy: Any) -> None:
    """RefusedError if a policy that opts in to every fault, and else is as given, forbids it."""
    Policy(faults=["*"], **policy).check(effect, 1.0, [])


def names(one: Eye, space: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in kube_eye.running(one, space)}


def lonely(name: str, host: str) -> dict[str, Any]:
    """A pod without an owner."""
    return {
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": host, "containers": [{"name": "main", "image": "nothing.invalid/none"}]},
    }


def budget(one: Eye, space: str, least: int, name: str = "web") -> None:
    document = {
        "metadata": {"name": name},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "web"}}},
    }
    one.ask("POST", f"/apis/policy/v1/namespaces/{space}/poddisruptionbudgets", document)
    path = f"/apis/policy/v1/namespaces/{space}/poddisruptionbudgets/{name}"
    one.until(lambda: one.get(path).get("status", {}).get("observedGeneration"), "its controller has seen the budget")
