"""The whole of it: a controller runs an experiment file of `experiments/scalability/`, and an agent does the ramp."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.workloads.ramp.spec import RAMP
from blackstart.client import Client
from blackstart.local.stack import Stack
from tests.cluster.test_ramp import rig_of

pytestmark = pytest.mark.timeout(180)
FILES = Path(__file__).parents[2] / "experiments" / "scalability"
POLICY = "ramp_namespaces: [scale-ramp]\nramp_pods_max: 300\n"


def blackstart(stack: Stack, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    assert stack.settings is not None
    env = {**os.environ, "BLACKSTART_CONTROLLER": stack.settings.controller,
           "BLACKSTART_CERTS": str(stack.settings.certs), **variables}  # fmt: skip
    command = [sys.executable, "-m", "blackstart.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=150, env=env)


def test_an_experiment_ramps_and_its_objectives_are_in_the_verdict(plane, programs, tmp_path, monkeypatch):
    rig = rig_of(plane, programs, tmp_path / "unused", monkeypatch)
    folder = tmp_path / "state" / "agent-kube"
    folder.mkdir(parents=True)
    (folder / "policy.yaml").write_text(POLICY)
    pages = {
        f"BLACKSTART_RAMP_{name.upper()}": f"https://127.0.0.1:{plane.ports[name]}/metrics"
        for name in ("scheduler", "controllers")
    }
    with Stack(tmp_path / "state", env=pages) as stack:
        stack.controller("127.0.0.1:0")
        stack.agent("kube", {"role": "kube"})
        stack.await_agents(1)
        file = FILES / "pods-exponential.yaml"
        done = blackstart(stack, "run", str(file), "--var", "pods=60", **pages)
        assert "10 to 60 pods (pods, exponential, played)" in done.stdout, done.stdout + done.stderr
        with Client(stack.settings) as client:
            run, shown = client.show(client.runs()[0].id)
        goals = {goal["name"]: goal["result"] for goal in shown["goals"]}
        assert goals["pod ramp"] == "met"
        assert run.verdict == ("held" if set(goals.values()) == {"met"} else "deviated"), shown["reasons"]
        assert done.returncode == (0 if run.verdict == "held" else 1)
        assert any("Ready" in figure["name"] for figure in shown["figures"])
        refused = blackstart(stack, "run", str(file), "--var", "pods=301", **pages)
        assert "more than the node's policy allows" in refused.stdout + refused.stderr
    assert not rig.kubectl.json("get", "pods", "-A", "-l", RAMP)["items"]
