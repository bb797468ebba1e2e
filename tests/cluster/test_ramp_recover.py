"""What a killed agent's ramp has left is removed also when the API server is away as the next agent starts."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from agent.workloads import kube_ramp
from agent.workloads.ramp.spec import RAMP
from blackstart.local.cluster.plane import Plane
from tests.cluster.test_ramp import SPACE, rig_of

pytestmark = pytest.mark.timeout(180)
NAME = "ramp-0123abcd"


def test_a_ramp_before_is_removed_once_the_server_is_there(
    plane: Plane, programs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rig_of(plane, programs, tmp_path / "ramps", monkeypatch)
    there, away = os.environ["KUBECONFIG"], tmp_path / "kubeconfig"
    settings = json.loads(Path(there).read_text())
    settings["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    away.write_text(json.dumps(settings))
    labels = {RAMP: NAME}
    rig.kubectl("create", "-f", "-", document={
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": labels},
    })  # fmt: skip
    rig.kubectl("-n", SPACE, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    rig.kubectl("create", "-f", "-", document={
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "left", "namespace": SPACE, "labels": labels},
        "spec": {"containers": [{"name": "main", "image": "nothing.invalid/none"}]},
    })  # fmt: skip
    rig.workload._keep(kube_ramp._Record(NAME, "run-1", rig.spec()))
    monkeypatch.setattr(kube_ramp, "_AGAIN_S", 0.5, raising=False)
    tries = rig.said

    async def drive() -> None:
        monkeypatch.setenv("KUBECONFIG", str(away))
        recovery = asyncio.create_task(rig.workload.recover())
        async with asyncio.timeout(60):
            while len(tries) < 2:
                await asyncio.sleep(0.1)
        monkeypatch.setenv("KUBECONFIG", there)
        async with asyncio.timeout(60):
            await recovery

    asyncio.run(drive())
    assert rig.is_clean()
