"""A deployment on played nodes, with a service, for probes that ask Kubernetes: up, down, or the server hangs."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any, ClassVar

from protos.recovery import Code
from tests.cluster.test_plane import deployment

if TYPE_CHECKING:
    from collections.abc import Callable

    from blackstart.local.cluster.plane import Plane
    from tests.cluster.conftest import Kubectl

STALE_S = 2.0
READY_S = 60.0
NAME = "probed"
MODES: dict[str, dict[str, Any]] = {
    "service": {"service": NAME, "ready_min": 2},
    "deployment": {"deployment": NAME},
    "selector": {"selector": f"app={NAME}", "ready_min": 2},
}

# An agent's process with one open probe: says what it has imported, and its helper.
AGENT = """
import asyncio, json, sys
from agent.probes.engine import ProbeEngine
from agent.probes.registry import build
import agent.daemon

async def body():
    probe = build("kube", json.loads(sys.argv[1]), lambda _: False)
    await probe.open()
    while await probe.attempt(1) != 0:
        await asyncio.sleep(0.05)
    print(json.dumps({"modules": sorted(sys.modules), "pid": probe.helper_pid}), flush=True)
    await asyncio.sleep(60)

asyncio.run(body())
"""


class KubeRig:
    """*mode*: of MODES."""

    kind = "kube"
    hangs_as = Code.ERROR  # that the API server hangs says nothing of the service
    bad_spec: ClassVar[dict[str, Any]] = {
        "namespace": "No_Name", "service": "a", "selector": "a=b", "ready_min": 0, "available_min": 1, "stale_s": 0.1,
    }  # fmt: skip
    bad_fields: ClassVar[set[str]] = {"namespace", "service", "ready_min", "available_min", "stale_s"}

    def __init__(self, plane: Plane, kubectl: Kubectl, mode: str) -> None:
        self._plane, self._kubectl = plane, kubectl
        self.spec = {"namespace": "default", "stale_s": STALE_S, **MODES[mode]}

    async def up(self) -> dict[str, Any]:
        self.wake()
        await asyncio.to_thread(self.scale, 2)
        await asyncio.sleep(0.3)  # far more than a change takes to the probe
        return dict(self.spec)

    async def down(self) -> None:
        self.wake()
        await asyncio.to_thread(self.scale, 0)
        await asyncio.sleep(0.3)

    async def hang(self) -> None:
        self.signal("kube-apiserver", signal.SIGSTOP)
        await asyncio.sleep(STALE_S + 0.5)

    def wake(self) -> None:
        for name in ("kube-apiserver", "etcd"):
            self.signal(name, signal.SIGCONT)

    def signal(self, program: str, number: signal.Signals) -> None:
        self._plane.members[program].process.send_signal(number)

    def scale(self, count: int) -> None:
        """Returns once pods and endpoints are as many."""
        if NAME not in self._kubectl("get", "deployments", "-o", "name"):
            self._kubectl("create", "-f", "-", document=deployment(NAME, count))
            self._kubectl("expose", "deployment", NAME, "--port=80")
        self._kubectl("scale", "deployment", NAME, f"--replicas={count}")
        until(lambda: self.counts() == (count, count), f"{count} pods and endpoints")

    def counts(self) -> tuple[int, int]:
        """Pods that are not being deleted and run, and ready endpoints."""
        pods = self._kubectl.json("get", "pods", "-l", f"app={NAME}")["items"]
        slices = self._kubectl.json("get", "endpointslices", "-l", f"kubernetes.io/service-name={NAME}")["items"]
        ends = [end for one in slices for end in one["endpoints"] or () if end["conditions"].get("ready")]
        status = self._kubectl.json("get", "deployment", NAME)["status"]
        running = sum(pod["status"]["phase"] == "Running" for pod in pods)
        return (running if len(pods) == status.get("availableReplicas", 0) else -1), len(ends)

    def remove(self) -> None:
        self.wake()
        self._kubectl("delete", "deployment,service", NAME, "--ignore-not-found")


def until(check: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + READY_S
    while not check():
        assert time.monotonic() < end, what
        time.sleep(0.1)


async def becomes(probe: Any, code: Code, *, within_s: float = READY_S) -> None:
    """Waits, by its attempts, until the probe answers *code*."""
    end, told = time.monotonic() + within_s, None
    while (told := await probe.attempt(1.0)) is not code:
        assert time.monotonic() < end, f"still {told!r}"
        await asyncio.sleep(0.01)
