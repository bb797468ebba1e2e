"""What a ramp makes in the cluster, and what there is to put it on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from agent.workloads.ramp.api import Api
from agent.workloads.ramp.creator import Template
from agent.workloads.ramp.spec import PLAYED, RAMP, RUN, RampSpec
from protos.error import ProbeError, RefusedError

Json = dict[str, Any]
_READY_S: Final = 60.0
_SAY_NS: Final = 2_000_000_000
GPU: Final = "nvidia.com/gpu"
_NAME: Final = "NAME-OF-THE-POD"  # replaced, as bytes
_SCALE: Final = {
    "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


def quantity(text: str) -> float:
    """Of `500m` 0.5, of `1Ki` 1024."""
    number = text.rstrip("mkKMGTi")
    return float(number) * _SCALE[text[len(number) :]]


class Objects:
    """Of one ramp, by its id (which is a label's value and a name)."""

    def __init__(self, spec: RampSpec, ramp: str, run: str) -> None:
        self._spec, self.ramp = spec, ramp
        self.labels = {RAMP: ramp, **({RUN: run} if run else {})}
        self.selector = f"{RAMP}={ramp}"
        self.deployments = f"/apis/apps/v1/namespaces/{spec.namespace}/deployments"

    def pod_spec(self) -> Json:
        wants = {"cpu": self._spec.cpu, "memory": self._spec.memory}
        gpus = {GPU: str(self._spec.gpus)} if self._spec.gpus else {}  # extended resources: requests equal limits
        container = {"name": "main", "image": self._spec.image, "resources": {"requests": wants | gpus, "limits": gpus}}
        return {
            "containers": [container], "nodeSelector": self._spec.node_selector, "restartPolicy": "Always",
            "tolerations": [{"key": PLAYED, "operator": "Exists"}], "automountServiceAccountToken": False,
            "enableServiceLinks": False,
        }  # fmt: skip

    def template(self) -> Template:
        """Of the pods that this client makes."""
        prefix = f"{self.ramp}-"
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": _NAME, "labels": self.labels},
               "spec": self.pod_spec()}  # fmt: skip
        before, after = json.dumps(pod).encode().split(_NAME.encode())
        return Template(f"/api/v1/namespaces/{self._spec.namespace}/pods", prefix, before, after)

    def deployment(self) -> Json:
        strategy = {"type": "RollingUpdate"}
        return {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": self.ramp, "labels": self.labels},
            "spec": {"replicas": self._spec.start, "selector": {"matchLabels": {RAMP: self.ramp}}, "strategy": strategy,
                     "template": {"metadata": {"labels": self.labels}, "spec": self.pod_spec()}},
        }  # fmt: skip

    def autoscaler(self) -> Json:
        """One pod for each unit of the metric; it may double, or add what is missing, every second."""
        target = {"type": "AverageValue", "averageValue": "1"}
        metric = {"type": "External", "external": {"metric": {"name": self._spec.metric}, "target": target}}
        rule = [{"type": "Percent", "value": 100, "periodSeconds": 1}, {"type": "Pods", "value": 4, "periodSeconds": 1}]
        return {
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": self.ramp, "labels": self.labels},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.ramp},
                "minReplicas": self._spec.start, "maxReplicas": self._spec.to, "metrics": [metric],
                "behavior": {"scaleUp": {"stabilizationWindowSeconds": 0, "policies": rule}},
            },
        }  # fmt: skip

    def prepare(self, api: Api, say: Callable[[str], None], until_ns: int) -> None:
        """The namespace, marked as the ramp's own where it was not there, with the account that pods need.

        Args:
            api: of the cluster.
            say: is told every two seconds what is waited for.
            until_ns: CLOCK_MONOTONIC; ProbeError when it has passed.
        """
        space = self._spec.namespace
        path, pause = f"/api/v1/namespaces/{space}", _Pauses(say, until_ns)
        while (found := api.call("GET", path, spare=404)) and found["metadata"].get("deletionTimestamp"):
            pause.once(f"namespace {space} is being deleted and does not end")
        if found is None:
            named = {"name": space, "labels": self.labels}
            api.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": named})
        while api.call("GET", f"{path}/serviceaccounts/default", spare=404) is None:
            pause.once(f"namespace {space} gets no default service account: the controllers have not made it yet")


class _Pauses:
    """Short ones, in which a human is told what is waited for, to the end of the time for it."""

    def __init__(self, say: Callable[[str], None], until_ns: int) -> None:
        now_ns = time.monotonic_ns()
        self._say, self._said_ns = say, now_ns
        self._until_ns = min(until_ns, now_ns + int(_READY_S * 1e9))

    def once(self, told: str) -> None:
        now_ns = time.monotonic_ns()
        if now_ns > self._until_ns:
            raise ProbeError(told)
        if now_ns - self._said_ns >= _SAY_NS:
            self._said_ns = now_ns
            self._say(f"waiting: {told}")
        time.sleep(0.05)


def room(api: Api, spec: RampSpec) -> Json:
    """`{nodes, pods, cpu, memory, gpus}` that the nodes of the selector offer; RefusedError if there are none."""
    chosen = quote(",".join(f"{key}={value}" for key, value in spec.node_selector.items()))
    rows = api.call("GET", f"/api/v1/nodes?labelSelector={chosen}")["items"]
    nodes = [row["status"].get("allocatable") or {} for row in rows if not row["spec"].get("unschedulable")]
    if not nodes:
        raise RefusedError(f"no node of the cluster has the labels {spec.node_selector}: there is nothing to ramp on")
    names = {"pods": "pods", "cpu": "cpu", "memory": "memory", "gpus": GPU}
    return {"nodes": len(nodes)} | {
        key: sum(quantity(node.get(name, "0")) for node in nodes) for key, name in names.items()
    }
