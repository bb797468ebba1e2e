"""How late the `kube` probe knows what the API server has written, and what knowing it costs. Run by `make bench`.

A pod's Ready condition is patched through the API, on a control plane of its own with played nodes: no kubelet takes
part.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import ssl
import statistics
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.probes.registry import build
from blackstart.local.cluster import build as cluster
from blackstart.local.cluster.node import fake_nodes
from blackstart.local.cluster.plane import Plane
from protos.recovery import Code
from tests.benchmarks.bench_service_probes import cost, held
from tests.cluster.conftest import Kubectl
from tests.cluster.kube_rig import NAME, STALE_S, KubeRig, becomes

CHANGES = 50
FREEZES = 10
IDLE_S = 20.0


class Writer:
    """Patches the API server over a connection of its own, which is kept."""

    def __init__(self, plane: Plane) -> None:
        context = ssl.create_default_context(cafile=str(plane.authority.pair.cert))
        pki = plane.state / "pki"
        context.load_cert_chain(pki / "user-admin.pem", pki / "user-admin-key.pem")
        self._connection = http.client.HTTPSConnection("127.0.0.1", plane.ports["api"], context=context, timeout=10)

    def ready(self, pod: str, ready: bool) -> int:
        """The instant at which the write was acknowledged."""
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        body = json.dumps({"status": {"conditions": [condition]}})
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        self._connection.request("PATCH", f"/api/v1/namespaces/default/pods/{pod}/status", body, headers)
        answer = self._connection.getresponse()
        at_ns = time.monotonic_ns()
        assert answer.status == 200, answer.read()
        answer.read()
        return at_ns

    def close(self) -> None:
        self._connection.close()


def told(name: str, values_s: list[float]) -> str:
    return f"{name:48} median {statistics.median(values_s) * 1e3:8.1f} ms, max {max(values_s) * 1e3:8.1f} ms"


async def lateness(probe: Any, writer: Writer, pod: str) -> list[str]:
    """From the acknowledgement of a write until the helper read it, and until the probe answers by it."""
    heard: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    hear = probe._state

    def noted(document: dict[str, Any]) -> None:
        hear(document)
        heard.put_nowait((document["at_ns"], time.monotonic_ns()))

    probe._state = noted
    read_s, answered_s = [], []
    for number in range(CHANGES):
        acknowledged_ns = await asyncio.to_thread(writer.ready, pod, number % 2 == 1)
        read_ns, known_ns = await asyncio.wait_for(heard.get(), 10)
        assert await probe.attempt(1.0) is (Code.OK if number % 2 else Code.BAD)
        read_s.append((read_ns - acknowledged_ns) / 1e9)
        answered_s.append((known_ns - acknowledged_ns) / 1e9)
        await asyncio.sleep(0.05)
    del probe._state
    whole = [row for row in probe.marks if row["mark"] in ("ready", "not_ready")]
    bounds_s = [(row["hi_ns"] - row["lo_ns"]) / 1e9 for row in whole]
    return [
        told("write acknowledged to read by the helper", read_s),
        told("write acknowledged to answered by the probe", answered_s),
        told("width of a mark's bounds", bounds_s),
    ]


async def freezes(probe: Any, rig: KubeRig) -> list[str]:
    """From SIGSTOP of the API server to the first attempt without data."""
    spans_s = []
    for _ in range(FREEZES):
        await becomes(probe, Code.OK)
        await asyncio.sleep(0.7)
        began_s = time.monotonic()
        rig.signal("kube-apiserver", signal.SIGSTOP)
        await becomes(probe, Code.ERROR)
        spans_s.append(time.monotonic() - began_s)
        rig.wake()
    await becomes(probe, Code.OK)
    return [told("API server frozen to no data", spans_s)]


async def idle(probe: Any) -> list[str]:
    helper = psutil.Process(probe.helper_pid)
    before = helper.cpu_times()
    await asyncio.sleep(IDLE_S)
    after = helper.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    memory = helper.memory_full_info()
    size = f"{memory.rss / 1e6:.0f} MB resident, {memory.uss / 1e6:.0f} MB of its own"
    return [f"helper at rest: {used_s / IDLE_S:.2%} of a core, {size}"]


@pytest.mark.benchmark
@pytest.mark.timeout(600)
async def test_lateness_and_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if lacks := cluster.missing():
        pytest.skip(lacks)
    programs = cluster.programs()
    with Plane(programs, tmp_path / "cluster") as plane:
        monkeypatch.setenv("KUBECONFIG", str(plane.admin))
        kubectl = Kubectl(programs["kubectl"], plane.admin)
        fake_nodes(programs["kubectl"], plane.admin, 2)
        rig, writer = KubeRig(plane, kubectl, "selector"), Writer(plane)
        spec = await rig.up() | {"stale_s": STALE_S}
        pod = kubectl("get", "pods", "-l", f"app={NAME}", "-o", "name").split()[0].removeprefix("pod/")
        began_s = time.monotonic()
        probe = build("kube", spec, lambda _: False)
        await probe.open()
        rows = [f"opened in {time.monotonic() - began_s:.2f} s"]
        try:
            rows += [*await lateness(probe, writer, pod), *await idle(probe), *await freezes(probe, rig)]
        finally:
            await probe.close()
            writer.close()
        cpu_ms, _ = await cost("kube", spec, tmp_path)
        rate, lag_ms = await held("kube", spec, tmp_path)
        rows.append(f"1,000 attempts: {cpu_ms:.0f} ms of processor; held {rate:.0f}/s, lag p99 {lag_ms:.1f} ms")
        print("", *rows, sep="\n")
