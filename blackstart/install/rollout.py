"""Waiting for what was applied: how far it is, and what holds it up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from blackstart.progress import progress
from protos.error import BlackstartError

if TYPE_CHECKING:
    from blackstart.install.kubectl import Kubectl

NAMESPACES: Final = ("blackstart", "blackstart-agents")
_LOOK_S: Final = 1.0
_SHOWN: Final = 4


def wait(kubectl: Kubectl, timeout_s: float) -> tuple[int, int]:
    """How many controllers and agents there are, once all are ready; BlackstartError with what is not, if late."""
    begun_s = time.monotonic()
    with progress(at_once=True) as tell:
        while True:
            rows = [row for name in NAMESPACES for row in _rows(kubectl, name)]
            if rows and all(row.done for row in rows):
                return _sum(rows, "Deployment"), _sum(rows, "DaemonSet")
            spent_s = time.monotonic() - begun_s
            tell(f"{spent_s:.0f} s of {timeout_s:.0f}: " + ", ".join(map(str, rows)))
            if spent_s > timeout_s:
                raise BlackstartError(_late(kubectl, rows, timeout_s))
            time.sleep(_LOOK_S)


class _Row:
    """A Deployment or DaemonSet: *ready* of *wanted*."""

    def __init__(self, item: dict[str, Any]) -> None:
        status, self.kind, self.name = item.get("status", {}), item["kind"], item["metadata"]["name"]
        daemon = self.kind == "DaemonSet"
        self.wanted = int(status.get("desiredNumberScheduled", 0) if daemon else item["spec"].get("replicas", 1))
        self.ready = int(status.get("numberReady" if daemon else "readyReplicas", 0))
        fresh = int(status.get("updatedNumberScheduled" if daemon else "updatedReplicas", 0))
        seen = status.get("observedGeneration", 0) >= item["metadata"]["generation"]
        self.done = seen and self.ready >= self.wanted - self._spare(item) and fresh >= self.wanted

    def _spare(self, item: dict[str, Any]) -> int:
        """How many need not be ready: those that stand by never are (overlay high-availability), but one is."""
        spare = ((item["spec"].get("strategy") or {}).get("rollingUpdate") or {}).get("maxUnavailable")
        return min(spare, self.wanted - 1) if self.kind == "Deployment" and isinstance(spare, int) else 0

    def __str__(self) -> str:
        return f"{self.name} {self.ready} of {self.wanted}"


def _rows(kubectl: Kubectl, namespace: str) -> list[_Row]:
    ours = ("-l", "app.kubernetes.io/part-of=blackstart")
    listed = kubectl.json("-n", namespace, "get", "deployments,daemonsets", *ours)
    return [_Row(item) for item in (listed or {}).get("items", ())]


def _sum(rows: list[_Row], kind: str) -> int:
    return sum(row.ready for row in rows if row.kind == kind)


def _late(kubectl: Kubectl, rows: list[_Row], timeout_s: float) -> str:
    late = ", ".join(str(row) for row in rows if not row.done) or "nothing"
    why = [line for name in NAMESPACES for line in _reasons(kubectl, name)]
    more = [f"  and {len(why) - _SHOWN} more"] if len(why) > _SHOWN else []
    message = f"not ready after {timeout_s:g} s: {late}. All that was applied is still there."
    return "\n".join([message, *(f"  {line}" for line in why[:_SHOWN]), *more])


def _reasons(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """A line for each pod that is not ready."""
    for pod in (kubectl.json("-n", namespace, "get", "pods") or {}).get("items", ()):
        status = pod.get("status", {})
        conditions = [one for one in status.get("conditions", ()) if one["type"] in {"Ready", "PodScheduled"}]
        unmet = [one for one in conditions if one["status"] != "True"]
        waiting = [
            state["waiting"]
            for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
            if "waiting" in (state := one.get("state", {})) and state["waiting"].get("reason") != "PodInitializing"
        ]
        for found in (*waiting, *unmet)[:1]:
            yield f"pod {pod['metadata']['name']}: {found.get('reason', '')}: {found.get('message', '')}".rstrip(": ")
