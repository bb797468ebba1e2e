"""The whole of it: a controller runs an encode experiment, an agent encodes, and a stop ends it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

pytest.importorskip("av", reason="needs PyAV: pip install 'blackstart[media]'")

from blackstart.client import Client
from blackstart.local.stack import Stack
from tests.contract.encode_rig import LADDER

pytestmark = pytest.mark.timeout(120)
FILE = Path(__file__).parents[2] / "experiments" / "performance" / "encode-node.yaml"
SMALL = {"pattern": "testsrc2", "width": 192, "height": 96, "fps": 25, "duration_s": 2.0}
LONG = SMALL | {"duration_s": 60.0}


def shrunk(folder: Path, **spec) -> Path:
    """The experiment that is shipped, with a spec for a test's time."""
    document = yaml.safe_load(FILE.read_text())
    document["method"][0]["provider"]["arguments"]["spec"] = {"renditions": LADDER} | spec
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def command(stack: Stack, *arguments: str) -> tuple[list[str], dict[str, str]]:
    assert stack.settings is not None
    certs = {"BLACKSTART_CONTROLLER": stack.settings.controller, "BLACKSTART_CERTS": str(stack.settings.certs)}
    return [sys.executable, "-m", "blackstart.cli", *arguments], {**os.environ, **certs}


def workers() -> list[psutil.Process]:
    found = []
    for one in psutil.Process().children(recursive=True):
        try:
            found += [one] if "agent.workloads.encode.worker" in " ".join(one.cmdline()) else []
        except psutil.Error:
            continue
    return found


def test_an_experiment_encodes_and_an_emergency_stop_ends_the_next(tmp_path):
    with Stack(tmp_path / "state") as stack:
        stack.controller("127.0.0.1:0")
        stack.agent("gpu", {"role": "encode"})
        stack.await_agents(1)
        file = shrunk(tmp_path, inputs=[SMALL], closed={"jobs": [1, 2]}, rtf_max=50, videos_s_min=0.001)
        line, env = command(stack, "run", str(file))
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=100, env=env)
        assert "6 of 6 videos encoded" in done.stdout, done.stdout + done.stderr
        assert "1 at a time: " in done.stdout
        assert "96p of pattern testsrc2" in done.stdout
        assert done.returncode == 0
        with Client(stack.settings) as client:
            _, shown = client.show(client.runs()[0].id)
        goals = {goal["name"]: goal["result"] for goal in shown["goals"]}
        assert goals == dict.fromkeys(
            ("realtime factor p95, 1 at a time", "realtime factor p95, 2 at a time", "videos of the best level",
             "videos failed, lost, doubled or wrong"), "met")  # fmt: skip
        names = {figure["name"] for figure in shown["figures"]}
        assert {"1 at a time: videos", "2 at a time: realtime factor p95"} <= names
        assert any(name.endswith(": PSNR") for name in names)

        line, env = command(stack, "run", str(shrunk(tmp_path, inputs=[LONG], closed={"jobs": [2], "count": 200})))
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as running:
            end = time.monotonic() + 60
            while len(workers()) < 2:
                assert time.monotonic() < end
                time.sleep(0.1)
            begun = time.monotonic()
            line, env = command(stack, "stop", "--all", "--reason", "test")
            subprocess.run(line, capture_output=True, text=True, check=True, timeout=60, env=env)
            while workers():
                assert time.monotonic() - begun < 10, "the stop ends the encoding, too"
                time.sleep(0.05)
            running.communicate(timeout=60)
            assert running.returncode not in (0, None)
        assert not (tmp_path / "state" / "agent-gpu" / "encode").exists()
